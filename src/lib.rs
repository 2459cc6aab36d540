//! audit-relay: Linux audit records from auditd to syslog, every one accounted for.
//!
//! ```text
//!        1 READ     2 DECODE        3 FORMAT       4 BATCH    5 QUEUE    6 SEND
//! fd 0 -> input -> audit::Decoder -> syslog::Encoder -> Batch -> queue -> output -> unix, udp, tcp, tls, relp
//!         `--------------------- ingest ----------------------'   |   `-- outputs, control
//!                                                           crossbeam
//! ```
//!
//! The rooms stand below in the order in which a record passes through them. What may import what is
//! written down in docs/architecture.md and checked by tests/house.rs.

// 1 READ
pub mod input;
// 2 DECODE
pub mod audit;
// 3 FORMAT
pub mod syslog;
// 4 BATCH
pub mod batch;
// 5 QUEUE
pub mod queue;
// 1 to 5, one loop
pub mod ingest;
// 6 SEND
pub mod output;

// What 6 could not deliver, for the next instance
pub mod handover;

// Around the path
pub mod apparmor;
pub mod certificate;
pub mod certificate_files;
pub mod cli;
pub mod config;
pub mod confine;
pub mod control;
pub mod diagnostics;
pub mod dispatcher;
pub mod doctor;
pub mod errand;
pub mod guarded;
pub mod host;
pub mod install;
pub mod pipeline;
pub mod printable;
pub mod privilege;
pub mod site;
pub mod status;
pub mod sys;
pub mod telemetry;

// For fuzz/ alone
#[doc(hidden)]
pub mod fuzzing;
