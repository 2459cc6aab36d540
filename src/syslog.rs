//! 3 FORMAT: records in, syslog messages out.
//!
//! Promise: every message is valid by RFC 5424 (or has the shape of RFC 3164 where that is asked for)
//! whatever the record holds. Law: pure; clock, host name and time zone come in as arguments.

#![forbid(unsafe_code)]

mod data;
mod framing;
mod header;
mod message;
pub mod relp;
mod text;
mod timestamp;

pub use data::{StructuredData, TimeQuality};
pub use framing::Framing;
pub use header::{Facility, Field, Severity};
pub use message::{Encoder, Format, Notice, Shape};
pub use timestamp::{LocalOffset, Rfc3164, civil_date};

/// Cuts `message`, which a datagram transport refused as too long, to `limit` bytes, with the same mark
/// that the encoder uses. Structured data is left whole or, but for `meta`, left out: a cut may fall into the text
/// only. `limit` is at least [`Shape::MIN_SIZE`], which header, `meta` and mark always fit.
pub fn cut_message(message: &[u8], limit: usize) -> bytes::BytesMut {
    let mut out = bytes::BytesMut::from(message);
    let whole = text::whole(&out);
    data::make_room(&mut out, limit);
    text::cut_as(&mut out, 0, limit, whole);
    out
}
