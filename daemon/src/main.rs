//! dipcd
fn main() {}
