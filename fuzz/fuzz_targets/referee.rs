//! `cargo fuzz run referee`: see `docs/testing.md`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dipc_fuzz::run("referee", bytes));
