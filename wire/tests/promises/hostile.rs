//! Bytes from a stranger, or from a node gone wrong: an error, no panic, and no
//! allocation that they did not pay for.

use dipc_wire::admin::{NodeStatus, Object};
use dipc_wire::call::{Call, SemOp};
use dipc_wire::census::Entry;
use dipc_wire::frame::{FrameError, MAX_PAYLOAD, decode};
use dipc_wire::local::{HelloReply, Inherited};
use dipc_wire::peer::{Caller, Message};
use dipc_wire::referee::{Answer, Join, ToNode};
use dipc_wire::{NodeId, ObjectId, Pid};
use proptest::prelude::*;
use serde::Deserialize;

use crate::golden::{Golden, PROTOCOL, encode};
use crate::memory::{Allocated, allocated_by};

/// `u32::MAX` and `u64::MAX`, as lengths and numbers of variants travel.
const HUGE: [&[u8]; 2] = [
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
];

/// `bytes` are no `T`, and to find that out costs no memory.
fn assert_malformed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) {
    let (result, allocated) = allocated_by(|| decode::<T>(bytes));
    assert_eq!(result.err(), Some(FrameError::Malformed), "{bytes:02x?}");
    assert_eq!(allocated, Allocated::default(), "{bytes:02x?}");
}

/// The most that taking `length` bytes for this type may allocate at once.
/// Messages borrow from their bytes, and cost nothing. Rows own what they hold:
/// a list reserves a row's size for every byte that may be a row, a vector that
/// grows starts with a few, and serde reserves a mebibyte at most.
fn may_allocate(golden: &Golden, length: usize) -> usize {
    const FEWEST: usize = 4;
    const MOST: usize = 1 << 20;
    let row = match golden.name {
        "Vec<Object>" => size_of::<Object>(),
        "Vec<NodeStatus>" => size_of::<NodeStatus>(),
        "Vec<Entry>" => size_of::<Entry>(),
        "Process" => 1,
        _ => 0,
    };
    (length.max(FEWEST) * row).min(MOST.max(length))
}

/// Takes `bytes` for a value. What is taken is a value: its own bytes are no
/// longer, and give it again.
fn probe(golden: &Golden, bytes: &[u8]) {
    let (result, allocated) = allocated_by(|| (golden.decode)(bytes));
    let limit = may_allocate(golden, bytes.len());
    assert!(
        allocated.largest <= limit,
        "{} allocates {} of {limit} bytes for {bytes:02x?}",
        golden.name,
        allocated.largest,
    );
    if result.is_ok() {
        let rewritten = (golden.rewrite)(bytes).expect("was decoded before");
        assert!(rewritten.len() <= bytes.len(), "{}", golden.name);
        assert_eq!(
            (golden.rewrite)(&rewritten).as_ref(),
            Ok(&rewritten),
            "{}",
            golden.name
        );
    }
}

#[test]
fn a_message_that_ends_early_is_malformed_wherever_it_ends() {
    for golden in PROTOCOL {
        for value in golden.values() {
            for cut in 0..value.len() {
                let result = (golden.decode)(&value[..cut]);
                let at = format!("{} {value:02x?} cut at {cut}", golden.name);
                assert_eq!(result, Err(FrameError::Malformed), "{at}");
                probe(golden, &value[..cut]);
            }
        }
    }
}

#[test]
fn bytes_behind_a_message_are_refused_and_counted() {
    for golden in PROTOCOL {
        for mut value in golden.values() {
            for surplus in 1..20 {
                value.push(0);
                let result = (golden.decode)(&value);
                let what = format!("{} {value:02x?}", golden.name);
                assert_eq!(result, Err(FrameError::Trailing(surplus)), "{what}");
            }
        }
    }
}

#[test]
fn a_variant_that_this_build_does_not_know_is_malformed() {
    for golden in PROTOCOL.iter().filter(|golden| golden.is_enum) {
        let after_the_last = encode(&golden.variants());
        let others = [&[0x7f][..], &[0x80, 0x02]];
        for number in others.into_iter().chain(HUGE).chain([&after_the_last[..]]) {
            let bytes = [number, &[1; 64]].concat();
            let what = format!("{} {number:02x?}", golden.name);
            assert_eq!(
                (golden.decode)(&bytes),
                Err(FrameError::Malformed),
                "{what}"
            );
            probe(golden, &bytes);
        }
    }
}

#[test]
fn node_0_is_nowhere_taken_for_a_node() {
    assert_malformed::<NodeId>(&[0]);
    assert_malformed::<Pid>(&[0, 7]);
    assert_malformed::<HelloReply>(&[1, 1, 0]);
    assert_malformed::<ToNode>(&[1, 0, 9]);
    assert_malformed::<dipc_wire::coherence::Message>(&[2, 1, 0, 9, 1, 1]);
    // A number of more than a byte is no node either: its first byte is 0x80.
    assert_eq!(decode::<NodeId>(&[0x80, 2]), Err(FrameError::Trailing(1)));
}

#[test]
fn a_number_that_is_no_objects_id_is_nowhere_taken_for_one() {
    let strangers = [
        0,
        5,
        32_768,
        -1,
        i32::MIN,
        (1 << 30) - 1,         // a kernel's id: bit 30 is not set
        1 << 30,               // of node 0
        (1 << 30) | 0x3f_ffff, // of node 0, its last
        -1 << 22,              // negative, but for that of node 255
    ];
    for raw in strangers {
        let id = encode(&raw);
        assert_malformed::<ObjectId>(&id);
        assert_malformed::<Call>(&[&[7, 1], &id[..]].concat());
        assert_malformed::<Message>(&[&[8], &id[..]].concat());
        assert_malformed::<ToNode>(&[&[2, 1], &id[..]].concat());
    }
    assert_malformed::<ObjectId>(HUGE[0]);
    assert_malformed::<ObjectId>(HUGE[1]);
}

#[test]
fn text_that_claims_to_be_longer_than_its_message_is_malformed_and_costs_nothing() {
    for claim in HUGE.into_iter().chain([&[4][..]]) {
        let with = |before: &[u8]| [before, claim, b"ann"].concat();
        assert_malformed::<Caller>(&with(&[7]));
        assert_malformed::<Message>(&with(&[0, 1, 7]));
        assert_malformed::<Join>(&with(&[1, 1, 1]));
        assert_malformed::<Answer>(&with(&[1]));
        assert_malformed::<ToNode>(&with(&[0, 7, 9]));
        assert_malformed::<dipc_wire::admin::Process>(&with(&[7]));
        assert_malformed::<String>(&with(&[]));
    }
}

#[test]
fn a_list_that_claims_more_rows_than_it_has_bytes_is_malformed_and_costs_nothing() {
    for claim in HUGE.into_iter().chain([&[4][..]]) {
        let with = |rows: &[u8]| [claim, rows].concat();
        assert_malformed::<Vec<Object>>(&with(&[0, 0]));
        assert_malformed::<Vec<NodeStatus>>(&with(&[1, 9]));
        assert_malformed::<Vec<NodeId>>(&with(&[]));
    }
}

/// The worst that a peer's rows can do: a whole payload that claims a row a byte.
#[test]
fn a_list_that_claims_a_row_a_byte_costs_a_mebibyte_at_most() {
    let claim = encode(&(MAX_PAYLOAD as u32 - 16));
    let mut bytes = vec![0; MAX_PAYLOAD];
    bytes[..claim.len()].copy_from_slice(&claim);
    let (objects, allocated) = allocated_by(|| decode::<Vec<Object>>(&bytes));
    assert_eq!(objects, Err(FrameError::Malformed));
    assert!(allocated.largest <= 1 << 20, "{allocated:?}");
    let (nodes, allocated) = allocated_by(|| decode::<Vec<NodeStatus>>(&bytes));
    assert_eq!(nodes, Err(FrameError::Malformed));
    assert!(allocated.largest <= 1 << 20, "{allocated:?}");
}

#[test]
fn a_field_that_is_out_of_its_range_is_malformed() {
    assert_malformed::<bool>(&[2]);
    assert_malformed::<Option<u64>>(&[2, 0]);
    assert_malformed::<u16>(&[0x80, 0x80, 0x04]); // 65 536
    assert_malformed::<u32>(&[0x80, 0x80, 0x80, 0x80, 0x10]); // 2³²
    assert_malformed::<u64>(&[0xff; 11]); // no end within 64 bits
    assert_malformed::<Caller>(&[7, 2, 0xc3, 0x28]); // not UTF-8
    assert_malformed::<String>(&[3, 0xed, 0xa0, 0x80]); // a surrogate, not UTF-8
}

#[test]
fn a_payload_of_no_whole_number_of_elements_is_none() {
    let bytes = [0xff; 4 * Inherited::BYTES];
    for length in 0..bytes.len() {
        let payload = &bytes[..length];
        let operations = SemOp::decode_all(payload).map(|all| all.len());
        let whole = length % SemOp::BYTES == 0;
        assert_eq!(operations, whole.then_some(length / SemOp::BYTES));
        let attachments = Inherited::decode_all(payload).map(|all| all.len());
        let whole = length % Inherited::BYTES == 0;
        assert_eq!(attachments, whole.then_some(length / Inherited::BYTES));
    }
}

#[test]
fn a_message_with_any_byte_changed_to_any_other_is_another_or_an_error() {
    for golden in PROTOCOL {
        for value in golden.values() {
            let mut bytes = value.clone();
            for at in 0..value.len() {
                for byte in 0..=u8::MAX {
                    bytes[at] = byte;
                    probe(golden, &bytes);
                }
                bytes[at] = value[at];
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for golden in PROTOCOL {
            probe(golden, &bytes);
        }
    }

    /// Nearly a message: deeper into the decoder than random bytes come.
    #[test]
    fn messages_with_many_changes_are_messages_or_errors(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        for golden in PROTOCOL {
            let values: Vec<_> = golden.values().collect();
            let mut bytes = [&values[pick.index(values.len())][..], &tail].concat();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            probe(golden, &bytes);
        }
    }
}
