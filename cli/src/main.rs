//! dipc
fn main() {}
