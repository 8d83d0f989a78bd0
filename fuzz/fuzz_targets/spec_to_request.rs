//! See `oauth_operator_fuzz::spec_to_request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth_operator_fuzz::spec_to_request(data));
