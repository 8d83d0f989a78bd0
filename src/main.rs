//! The `oauth-operator` binary.
fn main() { println!("{}", serde_saphyr::to_string(&oauth_operator::api::crd()).unwrap()); }
