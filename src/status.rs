//! Seeing it: what the running relay tells whoever may ask, and the command that asks.
//!
//! Promise: the numbers of the report, at any moment, over a socket in the file system, over HTTP on the loopback
//! interface, or in a file, without root and without a signal. Law: it only reads. A client is bounded in number, time
//! and bytes, and nobody who asks, however slowly, holds up a record; nothing here happens per record.
//!
//! ```text
//!            before root is given up     on the runtime                      pure
//! control <- door (sockets, folder) ---> server, textfile <-- exchange <-- metrics (Prometheus), JSON
//!                                          ^
//! audit-relay status: command, watch <-- client                 view (table for people)
//! audit-relay install, doctor <-------- sources
//! ```

mod attention;
mod client;
pub mod command;
mod door;
mod exchange;
mod metrics;
mod report_file;
mod server;
mod sources;
mod textfile;
mod view;
mod watch;
mod why;

pub use door::{Doors, faults, group, group_in_file, open, shut_to_group};
pub use report_file::open_report;
pub use server::{Ask, Server};
pub use sources::Sources;
pub use textfile::TextFile;

/// What is asked over the socket in one line, and answered in full.
pub const JSON: &str = "json";

/// See [`JSON`].
pub const PROMETHEUS: &str = "prometheus";
