//! See `relp_reader` in the bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| audit_relay_fuzz::relp_reader(data));
