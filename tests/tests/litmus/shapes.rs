//! The litmus tests: small programs by which memory models are told apart.
//!
//! Names and programs are those of the literature (Alglave, Maranget, Sarkar,
//! Sewell: "Litmus: Running Tests against Hardware", 2011). Each has a *weak*
//! outcome, which sequential consistency forbids; x86-TSO allows it for SB and R
//! alone, and only without fences (Owens, Sarkar, Sewell: "A Better x86 Memory
//! Model: x86-TSO", 2009).

/// A small program of several processes on the variables x and y, which are 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Each process's steps: `x=1` stores, `r0=y` loads. A register is loaded once.
    pub(crate) processes: &'static [&'static str],
    /// What it was made to see, in the form of [`crate::tso::Outcome`]: the
    /// registers that are loaded, then x and y; `None` where it does not matter.
    pub(crate) weak: ([Option<u8>; 4], [Option<u8>; 2]),
    /// Whether x86-TSO allows that without fences.
    pub(crate) tso_allows: bool,
}

const fn shape(
    name: &'static str,
    processes: &'static [&'static str],
    weak: ([Option<u8>; 4], [Option<u8>; 2]),
) -> Shape {
    Shape {
        name,
        processes,
        weak,
        tso_allows: false,
    }
}

const fn buffered(shape: Shape) -> Shape {
    Shape {
        tso_allows: true,
        ..shape
    }
}

const ANY: Option<u8> = None;
const A: Option<u8> = Some(0);
const B: Option<u8> = Some(1);
const C: Option<u8> = Some(2);

/// All of them. CoRW and CoWR are the variants in which two processes take part.
pub(crate) const SHAPES: [Shape; 12] = [
    buffered(shape(
        "SB",
        &["x=1 r0=y", "y=1 r1=x"],
        ([A, A, ANY, ANY], [ANY, ANY]),
    )),
    shape(
        "MP",
        &["x=1 y=1", "r0=y r1=x"],
        ([B, A, ANY, ANY], [ANY, ANY]),
    ),
    shape(
        "LB",
        &["r0=x y=1", "r1=y x=1"],
        ([B, B, ANY, ANY], [ANY, ANY]),
    ),
    shape(
        "S",
        &["x=2 y=1", "r0=y x=1"],
        ([B, ANY, ANY, ANY], [C, ANY]),
    ),
    buffered(shape(
        "R",
        &["x=1 y=1", "y=2 r0=x"],
        ([A, ANY, ANY, ANY], [ANY, C]),
    )),
    shape("2+2W", &["x=1 y=2", "y=1 x=2"], ([ANY; 4], [B, B])),
    shape(
        "WRC",
        &["x=1", "r0=x y=1", "r1=y r2=x"],
        ([B, B, A, ANY], [ANY, ANY]),
    ),
    shape(
        "IRIW",
        &["x=1", "y=1", "r0=x r1=y", "r2=y r3=x"],
        ([B, A, B, A], [ANY, ANY]),
    ),
    shape(
        "CoRR",
        &["x=1", "r0=x r1=x"],
        ([B, A, ANY, ANY], [ANY, ANY]),
    ),
    shape(
        "CoWW",
        &["x=1 x=2", "r0=x r1=x"],
        ([C, B, ANY, ANY], [ANY, ANY]),
    ),
    shape("CoRW", &["x=1", "r0=x x=2"], ([B, ANY, ANY, ANY], [B, ANY])),
    shape("CoWR", &["x=1 r0=x", "x=2"], ([C, ANY, ANY, ANY], [B, ANY])),
];

impl Shape {
    /// A process's steps, as the program `litmus` takes them.
    pub(crate) fn steps(&self, process: usize, fenced: bool) -> String {
        let steps = self.processes[process];
        if fenced {
            steps.replace(' ', " mfence ")
        } else {
            steps.to_owned()
        }
    }
}
