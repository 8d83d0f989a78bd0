//! See `oauth_operator_fuzz::egress_policy`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth_operator_fuzz::egress_policy(data));
