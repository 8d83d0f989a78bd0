//! See `oauth_operator_fuzz::api_responses`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth_operator_fuzz::api_responses(data));
