//! See `relp_session` in the bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| audit_relay_fuzz::relp_session(data));
