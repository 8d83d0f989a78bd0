//! The `oauth-operator` binary.
fn main() {}
