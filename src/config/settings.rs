//! What the user wrote, key by key, before anybody has understood it.
//!
//! Law: every value is as it was written; `None` is "not said". File and command line fill the same
//! [`Settings`]. What can be said of one destination can be said of all.

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use super::{complaint, one_or_more};
use crate::guarded::{self, Content, Fault};

/// No configuration is larger.
const LARGEST: u64 = 1 << 20;

/// Everything that file and command line can say.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Destinations with the settings below.
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub to: Option<Vec<String>>,
    /// One more destination: the first of these receivers that is well.
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub failover: Option<Vec<String>>,
    /// One more destination: all of these receivers that are well, by turns.
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub balance: Option<Vec<String>>,
    /// See [`super::Config::input`].
    pub input: Option<String>,
    /// See [`super::Destination::format`].
    pub format: Option<String>,
    /// See [`super::Destination::framing`].
    pub framing: Option<String>,
    /// See [`super::Config::facility`].
    pub facility: Option<String>,
    /// See [`super::Config::severity`].
    pub severity: Option<String>,
    /// See [`super::Config::hostname`].
    pub hostname: Option<String>,
    /// See [`super::Config::app_name`].
    pub app_name: Option<String>,
    /// See [`super::Config::structured_data`].
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub structured_data: Option<Vec<String>>,
    /// The user's private enterprise number, for `structured-data = ["audit"]`.
    pub enterprise_number: Option<u32>,
    /// See [`super::Config::drop_eoe`].
    pub eoe: Option<String>,
    /// See [`super::Destination::on_full`].
    pub on_full: Option<String>,
    /// See [`super::Destination::queue_size`].
    pub queue_size: Option<String>,
    /// See [`super::Destination::max_message_size`].
    pub max_message_size: Option<String>,
    /// See [`crate::output::service::Service::replay`].
    pub replay: Option<String>,
    /// See [`crate::output::service::Service::connect_timeout`].
    pub connect_timeout: Option<String>,
    /// See [`crate::output::service::Service::tcp_user_timeout`].
    pub tcp_user_timeout: Option<String>,
    /// See [`crate::output::service::Service::tcp_keepalive`].
    pub tcp_keepalive: Option<String>,
    /// See [`crate::output::service::Service::relp_window`].
    pub relp_window: Option<usize>,
    /// See [`crate::output::service::TlsSettings::verify`].
    #[serde(alias = "verify")]
    pub tls_verify: Option<String>,
    /// See [`crate::output::service::TlsSettings::ca`].
    pub tls_ca: Option<PathBuf>,
    /// See [`crate::output::service::TlsSettings::pins`].
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub tls_pin: Option<Vec<String>>,
    /// See [`crate::output::service::TlsSettings::name`].
    pub tls_name: Option<String>,
    /// See [`crate::output::service::TlsSettings::identity`].
    pub tls_cert: Option<PathBuf>,
    /// See [`crate::output::service::TlsSettings::identity`].
    pub tls_key: Option<PathBuf>,
    /// See [`crate::output::service::TlsSettings::crls`].
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub tls_crl: Option<Vec<PathBuf>>,
    /// See [`super::Config::gather`].
    pub gather: Option<String>,
    /// See [`super::Config::confine`].
    pub confine: Option<String>,
    /// See [`super::Config::threads`].
    pub threads: Option<String>,
    /// See [`super::Config::drain_timeout`].
    pub drain_timeout: Option<String>,
    /// See [`super::Config::handover`].
    pub handover: Option<PathBuf>,
    /// See [`super::Config::user`].
    pub user: Option<String>,
    /// See [`super::Config::report`].
    pub report: Option<PathBuf>,
    /// See [`super::Config::status`].
    pub status: Option<PathBuf>,
    /// See [`super::Config::status_group`].
    pub status_group: Option<String>,
    /// See [`super::Config::metrics`].
    pub metrics: Option<String>,
    /// See [`super::Config::metrics_file`].
    pub metrics_file: Option<PathBuf>,
    /// See [`super::Config::metrics_interval`].
    pub metrics_interval: Option<String>,
    /// See [`super::Config::statistics_interval`].
    pub statistics_interval: Option<String>,
    /// See [`super::Config::log`].
    pub log: Option<String>,
    /// Destinations with settings of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destination: Vec<DestinationSettings>,
}

/// One `[[destination]]` of the file: one of `url`, `failover` and `balance`, and what differs from the settings
/// of all.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is documented at the key of the same name in Settings")]
pub struct DestinationSettings {
    pub url: Option<String>,
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub failover: Option<Vec<String>>,
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub balance: Option<Vec<String>>,
    pub format: Option<String>,
    pub framing: Option<String>,
    pub on_full: Option<String>,
    pub queue_size: Option<String>,
    pub max_message_size: Option<String>,
    pub replay: Option<String>,
    pub connect_timeout: Option<String>,
    pub tcp_user_timeout: Option<String>,
    pub tcp_keepalive: Option<String>,
    pub relp_window: Option<usize>,
    #[serde(alias = "verify")]
    pub tls_verify: Option<String>,
    pub tls_ca: Option<PathBuf>,
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub tls_pin: Option<Vec<String>>,
    pub tls_name: Option<String>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    #[serde(default, deserialize_with = "one_or_more::read")]
    pub tls_crl: Option<Vec<PathBuf>>,
}

impl DestinationSettings {
    /// What holds for this destination: its own word where it has one, else that of all.
    pub(super) fn filled_from(&self, all: &Settings) -> Self {
        macro_rules! own_or_all {
            ($($key:ident)*) => {
                Self {
                    url: self.url.clone(),
                    failover: self.failover.clone(),
                    balance: self.balance.clone(),
                    $($key: self.$key.clone().or_else(|| all.$key.clone()),)*
                }
            };
        }
        own_or_all!(
            format framing on_full queue_size max_message_size replay connect_timeout tcp_user_timeout
            tcp_keepalive relp_window tls_verify tls_ca tls_pin tls_name tls_cert tls_key tls_crl
        )
    }

    /// A key that has no meaning without TLS, if one is set.
    pub(super) fn tls_key_in_use(&self) -> Option<&'static str> {
        [
            ("tls-verify", self.tls_verify.is_some()),
            ("tls-ca", self.tls_ca.is_some()),
            ("tls-pin", self.tls_pin.is_some()),
            ("tls-name", self.tls_name.is_some()),
            ("tls-cert", self.tls_cert.is_some()),
            ("tls-key", self.tls_key.is_some()),
            ("tls-crl", self.tls_crl.is_some()),
        ]
        .into_iter()
        .find_map(|(key, set)| set.then_some(key))
    }
}

impl Settings {
    /// Reads a file. Refuses one that anybody but root and `starter`, the user who has started this process, may have
    /// written or put in its place: who writes it decides where the audit trail goes. That holds for a reload too,
    /// when the relay has long become somebody else.
    ///
    /// # Errors
    /// A sentence with the remedy.
    pub fn from_file(path: &Path, starter: Uid) -> Result<Self, String> {
        let name = path.display();
        let bytes = guarded::read(path, Content::Word, starter, LARGEST).map_err(|fault| match fault {
            Fault::Io(error) => {
                let hint = if error.kind() == io::ErrorKind::PermissionDenied {
                    "; give the relay's group the right to read it (chgrp, chmod 0640)"
                } else {
                    ""
                };
                format!("cannot read configuration {name}: {error}{hint}")
            }
            Fault::Refused(sentence) => format!("configuration {sentence}"),
        })?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| format!("configuration {name} is not text (UTF-8)"))?;
        toml::from_str(text).map_err(|error: toml::de::Error| {
            format!("configuration {name}: {}", complaint::in_words(&error.to_string(), error.message()))
        })
    }

    /// Lays `over` on top: what it says wins. Destinations named there replace all of ours.
    #[must_use]
    pub fn overridden_by(self, over: Self) -> Self {
        let replaces = over.to.is_some()
            || over.failover.is_some()
            || over.balance.is_some()
            || !over.destination.is_empty();
        macro_rules! over_or_self {
            ($($key:ident)*) => {
                Self {
                    to: if replaces { over.to } else { self.to },
                    failover: if replaces { over.failover } else { self.failover },
                    balance: if replaces { over.balance } else { self.balance },
                    destination: if replaces { over.destination } else { self.destination },
                    $($key: over.$key.or(self.$key),)*
                }
            };
        }
        over_or_self!(
            input format framing facility severity hostname app_name structured_data enterprise_number eoe on_full
            queue_size max_message_size replay connect_timeout tcp_user_timeout tcp_keepalive relp_window tls_verify
            tls_ca tls_pin tls_name tls_cert tls_key tls_crl gather confine threads drain_timeout handover user report status
            status_group metrics metrics_file metrics_interval statistics_interval log
        )
    }
}
