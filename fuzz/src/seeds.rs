//! Bytes to begin with: the golden messages of `wire`, as they travel.

/// The lines of a golden table: each begins with the bytes, in hex.
fn golden(table: &str) -> Vec<Vec<u8>> {
    let line = |line: &str| {
        let hex = line.trim().strip_prefix('"')?.split('"').next()?;
        let digits: Vec<u32> = hex
            .chars()
            .filter(|c| *c != ' ')
            .map(|c| c.to_digit(16))
            .collect::<Option<_>>()?;
        let byte = |pair: &[u32]| (pair[0] << 4 | pair[1]) as u8;
        Some(digits.chunks_exact(2).map(byte).collect())
    };
    table.lines().filter_map(line).collect()
}

macro_rules! golden {
    ($($name:literal),*) => {
        [$(golden(include_str!(concat!("../../wire/tests/promises/golden/", $name, ".rs")))),*]
            .concat()
    };
}

/// Each message of all protocols as a frame, alone and behind another.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let frame = |message: Vec<u8>| {
        let prefix = [message.len() as u32, 3].map(u32::to_le_bytes).concat();
        [prefix, message, vec![1, 2, 3]].concat()
    };
    let mut frames: Vec<Vec<u8>> = golden!("local", "peer", "referee")
        .into_iter()
        .map(frame)
        .collect();
    frames.push(frames.concat());
    frames
}

pub(crate) fn local() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = golden!("local");
    let call = |call: Vec<u8>| [vec![0], call].concat();
    all.extend(golden!("call").into_iter().map(call));
    all
}

pub(crate) fn peer() -> Vec<Vec<u8>> {
    golden!("peer", "coherence", "call")
}

pub(crate) fn referee() -> Vec<Vec<u8>> {
    golden!("referee")
}

pub(crate) fn rows() -> Vec<Vec<u8>> {
    golden!("admin", "census")
}

pub(crate) fn limits() -> Vec<Vec<u8>> {
    [
        "shmmni=8192\nmsgmnb = 65536 # ours\n",
        "shmmax=1\nshmall=2\nsemmsl=4\nsemmns=5\nsemopm=6\nsemmni=7\nmsgmax=8\nmsgmni=10",
        "msgmax=16777216\nmsgmnb=2147483647",
        "# nothing\n\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Each message of the protocol as an event, then all of them in a row, at the home
/// and at a cache; see `machines::coherence`.
pub(crate) fn coherence() -> Vec<Vec<u8>> {
    let mut events: Vec<Vec<u8>> = Vec::new();
    for message in golden!("coherence").into_iter().filter(|m| m.len() > 1) {
        // The granule is the first field; golden ones are beyond the end here.
        for granule in 0..2 {
            for tail in [&message[2..], &message[3.min(message.len())..]] {
                let message = [&[message[0], granule][..], tail].concat();
                for from in 0..4 {
                    events.push([vec![7, from], message.clone()].concat());
                }
            }
        }
    }
    let faults = (2..4).map(|fault| vec![fault, 0]);
    events.extend(faults);
    let mut seeds = Vec::new();
    for me in 0..3 {
        for event in &events {
            seeds.push([&[me, 3, 0][..], event].concat());
        }
        seeds.push([vec![me], events.concat()].concat());
    }
    seeds
}

/// A join, then each message; see `machines::naming`.
pub(crate) fn naming() -> Vec<Vec<u8>> {
    use dipc_wire::referee::{Join, MAGIC, VERSIONS};
    let join = |name, address| {
        let (magic, versions, member) = (MAGIC, VERSIONS, None);
        let join = Join {
            magic,
            versions,
            name,
            address,
            member,
        };
        let bytes = postcard::to_stdvec(&join).unwrap_or_default();
        [vec![0], bytes].concat()
    };
    let joins = [join("ann", "127.0.0.1:1"), join("bob", "127.0.0.1:2")].concat();
    let said = |message: Vec<u8>| [vec![1, 0], message].concat();
    let messages: Vec<Vec<u8>> = golden!("referee").into_iter().map(said).collect();
    let mut seeds: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| [&joins[..], message].concat())
        .collect();
    seeds.push([joins, messages.concat()].concat());
    seeds
}

/// Every call by its number, with small operands; see `machines::semaphores` and
/// `machines::queues`.
pub(crate) fn calls() -> Vec<Vec<u8>> {
    let call = |number: u8| {
        (0..4u8)
            .flat_map(move |n| [number, n, n, 0, 1, n, 3])
            .collect()
    };
    let mut seeds: Vec<Vec<u8>> = (0..10).map(call).collect();
    seeds.push(seeds.concat());
    seeds
}
