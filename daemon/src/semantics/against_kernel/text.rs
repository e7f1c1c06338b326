//! Texts of messages, as `actor.c` makes and tells them.

use super::plan::Value;

/// `len` bytes, counting up from the first.
pub(super) fn counting(first: i64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (first as u8).wrapping_add(at as u8))
        .collect()
}

/// What a receiver tells of a message: its length, its type, and a hash
/// (FNV-1a) of its text.
pub(super) fn told(mtype: i64, text: &[u8]) -> Vec<Value> {
    let hash = text.iter().fold(2_166_136_261u32, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(16_777_619)
    });
    [text.len() as i64, mtype, i64::from(hash)]
        .map(Value::Number)
        .into()
}
