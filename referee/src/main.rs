//! dipc-referee
fn main() {}
