//! See `lines` in the bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| audit_relay_fuzz::lines(data));
