//! Bodies of the fuzz targets: what must hold whatever bytes come in.
//!
//! Promise: each function below takes any bytes, runs one part of the relay with them, and panics if a property that
//! its comment names does not hold. Law: no clock, no thread, no file: the same bytes always do the same. What the
//! relay says is judged by readers written here from the RFCs and from the formats' descriptions, not by the relay's
//! own code. libFuzzer drives them through `fuzz_targets/`, `cargo test` through tests/fuzz: docs/fuzzing.md.
//!
//! The first bytes of an input choose settings (see [`choices`]); the rest is what the relay reads.

mod choices;
mod decode;
mod encode;
mod files;
mod receiver;
mod reference;
mod relp;
mod rfc5424;

pub use decode::{decoder, frames, lines, record};
pub use encode::{encoder, framing, rfc3164};
pub use files::{certificates, config, handover};
pub use relp::{relp_reader, relp_session};
