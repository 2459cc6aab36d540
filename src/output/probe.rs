//! Tries a receiver as an output would, and sends no message.
//!
//! Law: the same code connects as for records, so that what passes here passes there.

use std::io;
use std::time::Duration;

use super::link::{Link, LookUp};
use super::service::{Member, Service};
use crate::certificate::Facts;

/// Connects, opens TLS and RELP where there are any, ends in order, and tells what the receiver's certificate says.
/// Blocks; each step has `limit` to itself.
///
/// # Errors
/// As an output would log them.
pub fn probe(member: &Member, service: &Service, limit: Duration) -> io::Result<Option<Facts>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let facts = runtime.block_on(async {
        let mut link = Link::connect(member, service, limit, &mut LookUp::default()).await?;
        let facts = link.tls().and_then(|tls| tls.peer().cloned());
        // A server may judge our certificate after the handshake (TLS 1.3), and says so instead of closing in order.
        let judged = link.tls().is_some_and(|tls| tls.is_judged_later());
        match link.finish().await {
            Err(error) if judged => Err(error),
            _ => Ok(facts),
        }
    });
    runtime.shutdown_background();
    facts
}
