//! `cargo fuzz run naming`: see `docs/testing.md`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dipc_fuzz::run("naming", bytes));
