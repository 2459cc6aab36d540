//! Command line: clap's types, and audisp-syslog's words.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::certificate::USUAL_DAYS;
use crate::config::{Settings, complaint};

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
        /// Also try what a relay that was taken over would try, and say what the kernel refuses.
        #[arg(long)]
        confinement: bool,
        /// Makes one attempt.
        #[arg(long, hide = true, value_name = "NAME")]
        attempt: Option<String>,
        /// Looks at the system in this folder, as it will be when it runs.
        #[arg(long, hide = true, value_name = "FOLDER", conflicts_with_all = ["confinement", "attempt"])]
        below: Option<PathBuf>,
        /// Settings.
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Show what the running relay does: counters, queues, connections. Ends with 0 if all is well, 1 if something needs
    /// attention (lines that begin with `!`), 69 if no relay runs.
    Status(StatusOptions),
    /// Have auditd start the relay, and watch the first records go through it; put everything back if that fails.
    ///
    /// Shows what it changes. Writes the configuration from the settings that are named here, if there is none; one that is
    /// there is never overwritten. Without settings and without a configuration: to /dev/log.
    Install {
        /// Stand in for audisp-syslog: change its plugins.d/syslog.conf, which compliance checks look for.
        #[arg(long)]
        replace_syslog: bool,
        /// After an upgrade: have auditd start the new program if it starts the relay at all, and change no file.
        #[arg(long, conflicts_with = "replace_syslog")]
        upgraded: bool,
        /// Seconds until records have to have been sent to every destination, 2 to 600.
        #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=600))]
        wait: u64,
        /// Where, and how far.
        #[command(flatten)]
        place: Place,
        /// Settings.
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Have auditd start the relay no longer, and remove what install has written.
    Uninstall {
        /// Leave the relay's configuration.
        #[arg(long)]
        keep_config: bool,
        /// Where, and how far.
        #[command(flatten)]
        place: Place,
    },
    /// Make a certificate and its key, or show what one says.
    #[command(subcommand)]
    Cert(Cert),
    /// Find what loses, doubles or spoils records on this machine, and say what to do. Changes nothing.
    ///
    /// Exit status: 0 nothing found, or notes only; 1 warnings; 2 problems.
    Doctor {
        /// What to look for, and how.
        #[command(flatten)]
        asked: Examination,
        /// Settings [default: those that auditd starts the relay with].
        #[command(flatten)]
        options: Box<Options>,
    },
}

/// How the doctor looks.
#[derive(Clone, Debug, Default, Args)]
pub struct Examination {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Print notes too: what is worth knowing and may well be meant.
    #[arg(long)]
    pub notes: bool,
    /// Look for these traps only.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub only: Vec<String>,
    /// List the traps that are known.
    #[arg(long)]
    pub list: bool,
    /// Send a long, marked test message to every destination, and look for it where this machine's rsyslog writes.
    #[arg(long)]
    pub send: bool,
    /// Look for the test message in this file too; may be given several times.
    #[arg(long, value_name = "FILE", requires = "send")]
    pub look_in: Vec<PathBuf>,
    /// Look at the files below this folder (a chroot, an image) instead of at this machine.
    #[arg(long, value_name = "FOLDER", conflicts_with = "send")]
    pub root: Option<PathBuf>,
    /// Seconds that it may take, 1 to 600; --send takes up to 10 more for each destination.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub within: u64,
    /// Only tries the receivers, as the relay's own account.
    #[arg(long, hide = true)]
    pub as_relay: bool,
}

/// Whom to ask, and in which form to show it.
#[derive(Debug, Args)]
pub struct StatusOptions {
    /// The relay's socket [default: as `status` in the configuration says, else /run/audit-relay/status.sock].
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Read the socket's path from this file [default: /etc/audit-relay.toml].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long, conflicts_with_all = ["prometheus", "watch"])]
    pub json: bool,
    /// Print metrics in Prometheus's text form.
    #[arg(long, conflicts_with = "watch")]
    pub prometheus: bool,
    /// Show it again every SECONDS (1 to 3600) until Ctrl-C or q, in place on a terminal, else a line each
    /// [default: 1].
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub watch: Option<u32>,
}

/// Where something is installed, and how far.
#[derive(Debug, Args)]
pub struct Place {
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Change files, and neither look for a running auditd nor reload it.
    #[arg(long)]
    pub files_only: bool,
    /// Change the system in this folder, whose auditd is not running.
    #[arg(long, value_name = "FOLDER", default_value = "/", hide_default_value = true)]
    pub root: PathBuf,
    /// auditd's configuration folder [default: what the running auditd was started with, else /etc/audit].
    #[arg(long, value_name = "FOLDER")]
    pub audit_dir: Option<PathBuf>,
}

impl Place {
    /// In the terms of [`crate::install`].
    pub fn request(self) -> crate::install::Request {
        crate::install::Request {
            dry_run: self.dry_run,
            root: self.root,
            audit_folder: self.audit_dir,
            files_only: self.files_only,
        }
    }
}

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Make a private key and a self-signed certificate for both ends of TLS, and print its fingerprints.
    New {
        /// Host name or address that the certificate is for; may be given several times [default: this host's
        /// fully qualified name].
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// Days until it ends, 1 to 7300.
        #[arg(long, value_name = "DAYS", default_value_t = USUAL_DAYS, value_parser = clap::value_parser!(u32).range(1..=7300))]
        days: u32,
        /// Write NAME.pem and NAME.key (for its owner only) here; neither may be there already. NAME.pem is taken for NAME.
        #[arg(value_name = "NAME", default_value = "audit-relay")]
        out: PathBuf,
    },
    /// Print the fingerprints, names and dates of the certificates in a PEM file.
    Show {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Options; each but `--config` is also a key of the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// Read this TOML file; `none` reads no file [default: /etc/audit-relay.toml if it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Send to this destination; may be given several times, each gets every record:
    /// unix:/dev/log, unix-stream:/PATH, udp://HOST[:514], tcp://HOST[:601], tls://HOST[:6514], relp://HOST[:2514],
    /// relps://HOST[:2514], stdout: [default: unix:/dev/log].
    #[arg(long, value_name = "URL")]
    to: Vec<String>,
    /// Send to the first of these receivers that is well: URL,URL,...
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    failover: Vec<String>,
    /// Spread over those of these receivers that are well: URL,URL,...
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    balance: Vec<String>,
    /// Message form: auto, rfc5424, rfc3164. auto is rfc3164 on local sockets, else rfc5424.
    #[arg(long, value_name = "FORM")]
    format: Option<String>,
    /// Framing on streams: octet, lf [default: octet on tcp and tls, lf elsewhere].
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
    /// Bytes that may wait for one destination [default: 64MiB; 8MiB where a file or a pipe can wait].
    #[arg(long, value_name = "SIZE")]
    queue_size: Option<String>,
    /// Cut longer messages, visibly [default: what the transport takes].
    #[arg(long, value_name = "SIZE")]
    max_message_size: Option<String>,
    /// What is sent again after a connection over TCP or TLS has ended: unacked, SIZE (that much acknowledged data too, for
    /// receivers that die with data unread), off [default: unacked].
    #[arg(long, value_name = "WHAT")]
    replay: Option<String>,
    /// Limit for looking a name up, for connecting, for the TLS handshake, each [default: 10s].
    #[arg(long, value_name = "TIME")]
    connect_timeout: Option<String>,
    /// A peer that acknowledges or takes nothing for this long is dead [default: 30s].
    #[arg(long, value_name = "TIME")]
    tcp_user_timeout: Option<String>,
    /// Idle time after which a TCP peer is asked whether it is still there [default: 30s].
    #[arg(long, value_name = "TIME")]
    tcp_keepalive: Option<String>,
    /// Messages that may wait for RELP's answer [default: 128].
    #[arg(long, value_name = "COUNT")]
    relp_window: Option<usize>,
    /// What the receiver's certificate has to be: ca, pin, pin-and-ca, none. Without this: ca; or what --tls-pin
    /// and --tls-ca together ask for.
    #[arg(long, value_name = "RULE", alias = "verify")]
    tls_verify: Option<String>,
    /// Trusted authorities, a PEM file or `system` [default: system].
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Fingerprint (sha256:...) that the receiver's certificate must have; several may be named.
    #[arg(long, value_name = "FINGERPRINT", value_delimiter = ',')]
    tls_pin: Vec<String>,
    /// Name in the receiver's certificate, where it is not the host in the URL.
    #[arg(long, value_name = "NAME")]
    tls_name: Option<String>,
    /// Our own certificate, a PEM file.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key, a PEM file.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Revocation list of the authority, a PEM or DER file; several may be named.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    tls_crl: Vec<PathBuf>,
    /// How long records may gather before they are read, while they come in quick succession, up to 20ms; 0ms:
    /// each is read at once [default: 5ms].
    #[arg(long, value_name = "TIME")]
    gather: Option<String>,
    /// Give up files, ports and system calls that the configuration does not need: auto, require (or do not start),
    /// log (only log what is not foreseen), off [default: auto].
    #[arg(long, value_name = "HOW")]
    confine: Option<String>,
    /// 1: one thread reads and sends; 2: one each; auto: two for a file, one for a socket as auditd's or a pipe
    /// [default: auto].
    #[arg(long, value_name = "COUNT")]
    threads: Option<String>,
    /// Time to deliver the rest after the input has ended [default: 2s].
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<String>,
    /// Folder on tmpfs where undelivered records are left for the next instance; auto is /run/audit-relay under
    /// auditd; off [default: auto].
    #[arg(long, value_name = "FOLDER")]
    handover: Option<PathBuf>,
    /// Account to run as when started as root [default: audit-relay if it exists, else nobody].
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Write the accounting here as JSON, at the end and on SIGUSR1.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Socket for `audit-relay status`; auto is /run/audit-relay/status.sock under auditd; off [default: auto].
    #[arg(long, value_name = "PATH")]
    status: Option<PathBuf>,
    /// Group that may connect to that socket [default: root and the relay's account only].
    #[arg(long, value_name = "NAME")]
    status_group: Option<String>,
    /// Serve metrics over HTTP at this address and port of the loopback interface, such as 127.0.0.1:9101.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,
    /// Write metrics to this file (*.prom), for node_exporter's textfile collector.
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
    /// How often the file is written [default: 15s].
    #[arg(long, value_name = "TIME")]
    metrics_interval: Option<String>,
    /// Send a message STATS with the sums to each destination this often; off [default: off].
    #[arg(long, value_name = "TIME")]
    statistics_interval: Option<String>,
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
    Cli::try_parse_from(arguments).map_err(|mut error| {
        if error.kind() == ErrorKind::UnknownArgument
            && let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg)
            && let Some(near) = near_option(wrong)
        {
            // In the place of clap's own, which explains how to send `--hostnam` as a word.
            error.remove(ContextKind::Suggested);
            error.insert(ContextKind::SuggestedArg, ContextValue::String(near));
        }
        error
    })
}

/// The option that `wrong` may be meant for.
fn near_option(wrong: &str) -> Option<String> {
    let cli = Cli::command();
    let commands = cli.get_subcommands().chain([&cli]);
    let options: Vec<_> =
        commands.flat_map(|command| command.get_arguments()).filter(|o| !o.is_hide_set()).collect();
    let known = options.iter().filter_map(|option| option.get_long());
    complaint::nearest(wrong.trim_start_matches('-'), known).map(|near| format!("--{near}"))
}

impl Options {
    /// What the options say, in the file's terms.
    ///
    /// # Errors
    /// A sentence about an argument of audisp-syslog's that cannot be followed.
    pub fn settings(self) -> Result<Settings, String> {
        let mut settings = Settings {
            to: some_if_any(self.to),
            failover: some_if_any(self.failover),
            balance: some_if_any(self.balance),
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
            connect_timeout: self.connect_timeout,
            tcp_user_timeout: self.tcp_user_timeout,
            tcp_keepalive: self.tcp_keepalive,
            relp_window: self.relp_window,
            tls_verify: self.tls_verify,
            tls_ca: self.tls_ca,
            tls_pin: some_if_any(self.tls_pin),
            tls_name: self.tls_name,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            tls_crl: some_if_any(self.tls_crl),
            gather: self.gather,
            confine: self.confine,
            threads: self.threads,
            drain_timeout: self.drain_timeout,
            handover: self.handover,
            user: self.user,
            report: self.report,
            status: self.status,
            status_group: self.status_group,
            metrics: self.metrics,
            metrics_file: self.metrics_file,
            metrics_interval: self.metrics_interval,
            statistics_interval: self.statistics_interval,
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
                    let cli = Cli::command();
                    let commands = cli.get_subcommands().map(clap::Command::get_name);
                    let hint = complaint::nearest(&word, commands)
                        .map_or_else(String::new, |near| format!(" (is `{near}` meant?)"));
                    return Err(format!(
                        "`{word}` is no command, no option and none of audisp-syslog's words{hint}; see audit-relay --help"
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
            "--connect-timeout",
            "7s",
            "--relp-window",
            "64",
            "--failover",
            "tls://c,tls://d",
            "--balance",
            "relps://e,relp://f",
            "--tls-verify",
            "pin-and-ca",
            "--tls-ca",
            "/ca",
            "--tls-pin",
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "--tls-name",
            "n",
            "--tls-cert",
            "/c",
            "--tls-key",
            "/k",
            "--tls-crl",
            "/l,/m",
            "--handover",
            "off",
            "--gather",
            "2ms",
            "--confine",
            "log",
            "--threads",
            "1",
            "--drain-timeout",
            "1s",
            "--user",
            "u",
            "--report",
            "/r",
            "--status",
            "/s",
            "--status-group",
            "adm",
            "--metrics",
            "127.0.0.1:9101",
            "--metrics-file",
            "/m.prom",
            "--metrics-interval",
            "9s",
            "--statistics-interval",
            "1min",
            "--log",
            "none",
        ])
        .unwrap();
        let text = toml::to_string(&given).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains(" = ")).count(), 42, "{text}");
        given.validate().unwrap();
    }

    #[test]
    fn check_takes_the_same_options() {
        let cli = parse(["audit-relay", "check", "--to", "stdout:"].map(OsString::from)).unwrap();
        assert!(matches!(cli.command, Some(Command::Check { .. })));
    }
}
