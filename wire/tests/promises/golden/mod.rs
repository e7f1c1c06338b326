//! Golden bytes: a value of every message, and the bytes it has for ever.
//!
//! One line a value, in hex; spaces set fields apart. A line that fails tells
//! that nodes of this build no longer understand those of builds before it. So
//! lines are added, never changed:
//!
//! - A new variant does not compile before it has its line.
//! - Variants stand in the order of their numbers, so a new one is appended.
//! - A new field does not compile either: it needs a new variant or a new version.

mod admin;
mod call;
mod census;
mod coherence;
mod local;
mod names;
mod peer;
mod referee;

use std::fmt::Debug;

use dipc_wire::frame::{self, FrameError};
use dipc_wire::{Incarnation, Limits, NodeId, ObjectId, Pid};
use serde::{Deserialize, Serialize};

/// Every type that travels.
pub(crate) const PROTOCOL: &[Golden] = &[
    names::NODE_ID,
    names::INCARNATION,
    names::PROCESS_ID,
    names::OBJECT_ID,
    names::KIND,
    names::ERRNO,
    call::CALL,
    call::SEM_COMMAND,
    call::REPLY,
    coherence::ACCESS,
    coherence::CONTENT,
    coherence::MESSAGE,
    local::HELLO,
    local::HELLO_REPLY,
    local::REQUEST,
    local::RESPONSE,
    peer::HELLO,
    peer::CALLER,
    peer::MESSAGE,
    referee::MEMBERSHIP,
    referee::JOIN,
    referee::ANSWER,
    referee::TO_REFEREE,
    referee::TO_NODE,
    census::TOTALS,
    census::CENSUS,
    census::ENTRIES,
    admin::DETAIL,
    admin::COUNTERS,
    admin::PROCESS,
    admin::OBJECTS,
    admin::NODES,
];

/// A type that travels.
pub(crate) struct Golden {
    /// Its name.
    pub(crate) name: &'static str,
    /// Whether it is an enum: its first byte is the variant's number.
    pub(crate) is_enum: bool,
    /// What its values look like, in hex.
    hex: &'static [&'static str],
    /// Takes the bytes for a value of the type.
    pub(crate) decode: fn(&[u8]) -> Result<(), FrameError>,
    /// Takes the bytes for a value of the type, and writes that value.
    pub(crate) rewrite: fn(&[u8]) -> Result<Vec<u8>, FrameError>,
}

impl Golden {
    /// The bytes of its values.
    pub(crate) fn values(&self) -> impl Iterator<Item = Vec<u8>> {
        self.hex.iter().copied().map(unhex)
    }

    /// How many variants it has, as an enum.
    pub(crate) fn variants(&self) -> u32 {
        let last = self.values().last().expect("every table has a line");
        u32::from(last[0]) + 1
    }
}

/// The bytes that `text` tells two digits each.
fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("two hex digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// A value's bytes, as it travels.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("memory has room for it")
}

/// `value` has these bytes, and they are `value`.
fn assert_golden<'a, T>(name: &str, bytes: &'a [u8], value: &T)
where
    T: Serialize + Deserialize<'a> + PartialEq + Debug,
{
    let encoded = encode(value);
    assert_eq!(encoded, bytes, "{name} is {encoded:02x?}");
    assert_eq!(frame::decode::<T>(bytes).as_ref(), Ok(value), "{name}");
}

/// Watches that an enum's lines come in the order of its variants.
#[derive(Default)]
struct Order {
    seen: Vec<&'static str>,
}

impl Order {
    /// The next line begins with `first` and is of this variant.
    fn next(&mut self, variant: &'static str, first: u8) {
        if self.seen.last() != Some(&variant) {
            self.seen.push(variant);
        }
        let position = self.seen.len() - 1;
        assert_eq!(usize::from(first), position, "{variant} has another place");
    }
}

/// The golden lines of an enum: `"bytes" Variant { fields },`. All variants,
/// in the order of their numbers; one that differs inside may have several lines.
macro_rules! golden_enum {
    ($golden:ident, $test:ident: $type:ident {
        $($hex:literal $variant:ident $({ $($field:tt)* })? $(( $($item:tt)* ))?,)*
    }) => {
        pub(crate) const $golden: crate::golden::Golden =
            crate::golden::golden!($type, true, [$($hex),*]);

        #[test]
        fn $test() {
            // Compiles only if every variant has its line.
            #[allow(unreachable_patterns)]
            let _ = |value: $type| match value { $($type::$variant { .. } => (),)* };
            let mut order = crate::golden::Order::default();
            $(
                let bytes = crate::golden::unhex($hex);
                order.next(stringify!($variant), bytes[0]);
                let value = $type::$variant $({ $($field)* })? $(( $($item)* ))?;
                crate::golden::assert_golden(stringify!($variant), &bytes, &value);
            )*
        }
    };
}

/// The golden lines of any other type: `"bytes" => value,`.
macro_rules! golden_values {
    ($golden:ident, $test:ident: $type:ty { $($hex:literal => $value:expr,)* }) => {
        pub(crate) const $golden: crate::golden::Golden =
            crate::golden::golden!($type, false, [$($hex),*]);

        #[test]
        fn $test() {
            $(
                let value: $type = $value;
                let bytes = crate::golden::unhex($hex);
                crate::golden::assert_golden(stringify!($type), &bytes, &value);
            )*
        }
    };
}

macro_rules! golden {
    ($type:ty, $is_enum:literal, [$($hex:literal),*]) => {
        crate::golden::Golden {
            name: stringify!($type),
            is_enum: $is_enum,
            hex: &[$($hex),*],
            decode: |bytes| dipc_wire::frame::decode::<$type>(bytes).map(drop),
            rewrite: |bytes| {
                dipc_wire::frame::decode::<$type>(bytes).map(|value| crate::golden::encode(&value))
            },
        }
    };
}

use {golden, golden_enum, golden_values};

/// The node of this number.
pub(crate) const fn node(number: u8) -> NodeId {
    NodeId::new(number).expect("not 0")
}

/// Node 2's fifth object: the id in most of the lines, `8a80808808`.
const ID: ObjectId = ObjectId::new(node(2), 5);
/// Process 300 of node 2: `02 ac02`.
const PID: Pid = Pid {
    node: node(2),
    pid: 300,
};
/// `01 02 03 04 05 06 07 08 09 0a`
const LIMITS: Limits = Limits {
    shmmax: 1,
    shmall: 2,
    shmmni: 3,
    semmsl: 4,
    semmns: 5,
    semopm: 6,
    semmni: 7,
    msgmax: 8,
    msgmnb: 9,
    msgmni: 10,
};
/// `09`
const LIFE: Incarnation = Incarnation(9);
