//! Command line: clap's types, and audisp-syslog's words.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Settings;

/// Relays Linux audit records from auditd to syslog.
///
/// Reads records on standard input, as auditd hands them to a plugin, until the input ends, and sends each
/// as one syslog message. Every record is accounted for.
#[derive(Debug, Parser)]
#[command(name = "audit-relay", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do other than relaying.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings.
    #[command(flatten)]
    pub options: Options,
}

/// Other things to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate the configuration and print the one in effect.
    Check {
        /// Settings.
        #[command(flatten)]
        options: Box<Options>,
    },
}

/// Options; each but `--config` is also a key of the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// Read this TOML file; `none` reads no file [default: /etc/audit-relay.toml if it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Send to this destination; may be given several times, each gets every record:
    /// unix:/dev/log, unix-stream:/PATH, udp://HOST[:514], tcp://HOST[:601], stdout: [default: unix:/dev/log].
    #[arg(long, value_name = "URL")]
    to: Vec<String>,
    /// Message form: auto, rfc5424, rfc3164. auto is rfc3164 on local sockets, else rfc5424.
    #[arg(long, value_name = "FORM")]
    format: Option<String>,
    /// Framing on streams: octet, lf [default: octet on tcp, lf elsewhere].
    #[arg(long, value_name = "KIND")]
    framing: Option<String>,
    /// Syslog facility [default: local6].
    #[arg(long, value_name = "NAME")]
    facility: Option<String>,
    /// Syslog severity of records [default: info].
    #[arg(long, value_name = "NAME")]
    severity: Option<String>,
    /// HOSTNAME of messages [default: this host's fully qualified name].
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// APP-NAME of messages [default: auditd].
    #[arg(long, value_name = "NAME")]
    app_name: Option<String>,
    /// Elements of structured data: meta, origin, time-quality, audit, or none [default: meta].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    structured_data: Vec<String>,
    /// Your private enterprise number (IANA), for the element `audit`.
    #[arg(long, value_name = "NUMBER")]
    enterprise_number: Option<u32>,
    /// Form of the input: auto, text, binary, binary-exact, binary-fixed [default: auto].
    #[arg(long, value_name = "FORM")]
    input: Option<String>,
    /// End-of-event records: drop (and count), keep [default: drop].
    #[arg(long, value_name = "WHAT")]
    eoe: Option<String>,
    /// When a destination's queue is full: auto, block, drop-newest, drop-oldest. auto blocks if the input
    /// is a file or a pipe and drops the newest if it is auditd's socket.
    #[arg(long, value_name = "POLICY")]
    on_full: Option<String>,
    /// Bytes that may wait for one destination [default: 64MiB].
    #[arg(long, value_name = "SIZE")]
    queue_size: Option<String>,
    /// Cut longer messages, visibly [default: what the transport takes].
    #[arg(long, value_name = "SIZE")]
    max_message_size: Option<String>,
    /// What is sent again after a TCP connection has ended: unacked, SIZE (that much acknowledged data too, for
    /// receivers that die with data unread), off [default: unacked].
    #[arg(long, value_name = "WHAT")]
    replay: Option<String>,
    /// A TCP peer that acknowledges nothing for this long is dead [default: 30s].
    #[arg(long, value_name = "TIME")]
    tcp_user_timeout: Option<String>,
    /// Idle time after which a TCP peer is asked whether it is still there [default: 30s].
    #[arg(long, value_name = "TIME")]
    tcp_keepalive: Option<String>,
    /// Time to deliver the rest after the input has ended [default: 2s].
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<String>,
    /// Account to run as when started as root [default: audit-relay if it exists, else nobody].
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Write the accounting here as JSON, at the end and on SIGUSR1.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Where diagnostics go: auto, stderr, syslog, none. auto adds syslog under auditd [default: auto].
    #[arg(long, value_name = "WHERE")]
    log: Option<String>,
    /// audisp-syslog's arguments, so that the relay can stand in its place: a level (LOG_INFO) and a
    /// facility (LOG_LOCAL6).
    #[arg(value_name = "LOG_WORD")]
    words: Vec<String>,
}

/// Reads the command line.
///
/// # Errors
/// clap's message, which it knows how to print; help and version are among them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments)
}

impl Options {
    /// What the options say, in the file's terms.
    ///
    /// # Errors
    /// A sentence about an argument of audisp-syslog's that cannot be followed.
    pub fn settings(self) -> Result<Settings, String> {
        let mut settings = Settings {
            to: some_if_any(self.to),
            input: self.input,
            format: self.format,
            framing: self.framing,
            facility: self.facility,
            severity: self.severity,
            hostname: self.hostname,
            app_name: self.app_name,
            structured_data: some_if_any(self.structured_data),
            enterprise_number: self.enterprise_number,
            eoe: self.eoe,
            on_full: self.on_full,
            queue_size: self.queue_size,
            max_message_size: self.max_message_size,
            replay: self.replay,
            tcp_user_timeout: self.tcp_user_timeout,
            tcp_keepalive: self.tcp_keepalive,
            drain_timeout: self.drain_timeout,
            user: self.user,
            report: self.report,
            log: self.log,
            destination: Vec::new(),
        };
        for word in self.words {
            let name = word.strip_prefix("LOG_").unwrap_or_default().to_ascii_lowercase();
            match name.as_str() {
                "debug" | "info" | "notice" | "warning" | "err" | "crit" | "alert" | "emerg" => {
                    settings.severity.get_or_insert(name);
                }
                "auth" | "authpriv" | "daemon" | "syslog" | "user" | "local0" | "local1" | "local2"
                | "local3" | "local4" | "local5" | "local6" | "local7" => {
                    settings.facility.get_or_insert(name);
                }
                _ if word == "interpret" => {
                    return Err("`interpret`: this version does not decode records; take the word out of `args`, and set \
                                log_format = ENRICHED in auditd.conf to get names beside the numbers"
                        .to_owned());
                }
                _ => {
                    return Err(format!(
                        "`{word}` is no option, and none of audisp-syslog's words; see audit-relay --help"
                    ));
                }
            }
        }
        Ok(settings)
    }
}

fn some_if_any<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings, String> {
        let arguments = ["audit-relay"].iter().chain(arguments).map(OsString::from);
        parse(arguments).unwrap().options.settings()
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn audisp_syslogs_arguments() {
        let given = settings(&["LOG_NOTICE", "LOG_LOCAL3"]).unwrap();
        assert_eq!((given.severity.as_deref(), given.facility.as_deref()), (Some("notice"), Some("local3")));
        assert!(settings(&["LOG_INFO", "interpret"]).unwrap_err().contains("log_format = ENRICHED"));
        assert!(settings(&["LOG_LOCAL9"]).unwrap_err().contains("`LOG_LOCAL9`"));
        assert!(settings(&["info"]).is_err());
    }

    #[test]
    fn every_key_of_the_file_has_an_option() {
        let given = settings(&[
            "--to",
            "udp://a",
            "--to",
            "tcp://b",
            "--input",
            "text",
            "--format",
            "rfc5424",
            "--framing",
            "lf",
            "--facility",
            "auth",
            "--severity",
            "err",
            "--hostname",
            "h",
            "--app-name",
            "a",
            "--structured-data",
            "meta,origin",
            "--enterprise-number",
            "7",
            "--eoe",
            "keep",
            "--on-full",
            "block",
            "--queue-size",
            "1MiB",
            "--max-message-size",
            "8KiB",
            "--replay",
            "off",
            "--tcp-user-timeout",
            "9s",
            "--tcp-keepalive",
            "8s",
            "--drain-timeout",
            "1s",
            "--user",
            "u",
            "--report",
            "/r",
            "--log",
            "none",
        ])
        .unwrap();
        let text = toml::to_string(&given).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains(" = ")).count(), 21, "{text}");
        given.validate().unwrap();
    }

    #[test]
    fn check_takes_the_same_options() {
        let cli = parse(["audit-relay", "check", "--to", "stdout:"].map(OsString::from)).unwrap();
        assert!(matches!(cli.command, Some(Command::Check { .. })));
    }
}
