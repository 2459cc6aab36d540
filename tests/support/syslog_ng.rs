//! A real syslog-ng to receive, from the folder that `.ci/syslog-ng` makes.
//!
//! Law: as for the other programs of the live tests: ended with its handle, on the loopback interface only.

#![allow(dead_code, reason = "several test programs share this file and each uses its part")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use super::live::{
    Message, TlsFiles, command, end, free_tcp_ports, listens, messages_in, syslog_ng_root, wait_for_messages,
    wait_until,
};

/// One way into syslog-ng.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NgInlet {
    /// The `syslog()` source: RFC 5424 with octet counting.
    Tcp,
    /// No client certificate.
    Tls,
    /// With a client certificate by the same authority, its default.
    TlsClient,
    /// The `network()` source with `flags(syslog-protocol)`: RFC 5424, a line a message.
    TcpLf,
    /// As it, a datagram a message.
    Udp,
    /// The `unix-dgram()` source, which parses RFC 3164 as on `/dev/log`.
    Unix,
}

impl NgInlet {
    const ALL: [Self; 6] = [Self::Tcp, Self::Tls, Self::TlsClient, Self::TcpLf, Self::Udp, Self::Unix];

    fn is_stream(self) -> bool {
        !matches!(self, Self::Udp | Self::Unix)
    }
}

/// A running syslog-ng with one listener per [`NgInlet`], writing what it understands as JSON lines.
#[derive(Debug)]
pub(crate) struct SyslogNg {
    dir: PathBuf,
    child: Child,
    ports: Vec<u16>,
}

impl SyslogNg {
    pub(crate) fn start(dir: &Path, tls: &TlsFiles) -> Self {
        let ports = free_tcp_ports(NgInlet::ALL.len());
        let (ca, certificate, key) = (tls.ca.display(), tls.certificate.display(), tls.key.display());
        let here = dir.display();
        let mut sources = String::new();
        let mut names = String::new();
        for (inlet, port) in NgInlet::ALL.iter().zip(&ports) {
            let tls = |verify: &str| {
                format!(
                    "\"tls\") tls(cert-file(\"{certificate}\") key-file(\"{key}\") ca-file(\"{ca}\") \
                     peer-verify({verify}))"
                )
            };
            let at = format!("ip(\"127.0.0.1\") port({port})");
            let source = match inlet {
                NgInlet::Tcp => format!("syslog({at} transport(\"tcp\"))"),
                NgInlet::Tls => format!("syslog({at} transport({})", tls("optional-untrusted")),
                NgInlet::TlsClient => format!("syslog({at} transport({})", tls("required-trusted")),
                NgInlet::TcpLf => format!("network({at} transport(\"tcp\") flags(syslog-protocol))"),
                NgInlet::Udp => {
                    format!("network({at} transport(\"udp\") flags(syslog-protocol) so-rcvbuf(67108864))")
                }
                NgInlet::Unix => format!("unix-dgram(\"{here}/log.ng\")"),
            };
            sources += &format!("source {inlet:?} {{ {source}; }};\n");
            names += &format!("source({inlet:?}); ");
        }
        let template = "$(format-json inlet=$SOURCE time=$ISODATE host=$HOST app=$PROGRAM pid=$PID \
                        msgid=$MSGID sd=$SDATA facility=$FACILITY severity=$LEVEL msg=$MSG)\\n";
        // flow-control: a sender that is too fast waits; without it syslog-ng drops.
        let conf = format!(
            r#"@version: current
options {{ use-dns(no); dns-cache(no); keep-hostname(yes); log-msg-size(131072); frac-digits(6); }};
{sources}destination file {{ file("{here}/syslog-ng.jsonl" template("{template}")); }};
log {{ {names}destination(file); flags(flow-control); }};
"#
        );
        fs::write(dir.join("syslog-ng.conf"), conf).unwrap();
        let child = Self::spawn(dir);
        let mut this = Self { dir: dir.to_owned(), child, ports };
        this.wait_ready();
        this
    }

    fn spawn(dir: &Path) -> Child {
        let root = syslog_ng_root();
        let own = root.join("usr/lib/syslog-ng");
        // `usr/lib/syslog-ng/VERSION` holds the modules.
        let modules = fs::read_dir(&own)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.is_dir())
            .expect("a folder with modules");
        let log = File::create(dir.join("syslog-ng.stderr")).unwrap();
        // If the test process is killed, it goes too.
        command("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(root.join("usr/sbin/syslog-ng"))
            .args(["--foreground", "--no-caps", "--stderr", "--cfgfile"])
            .arg(dir.join("syslog-ng.conf"))
            .arg(format!("--module-path={}", modules.display()))
            .arg(format!("--persist-file={}", dir.join("syslog-ng.persist").display()))
            .arg(format!("--control={}", dir.join("syslog-ng.ctl").display()))
            .arg(format!("--pidfile={}", dir.join("syslog-ng.pid").display()))
            .env("LD_LIBRARY_PATH", own)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn wait_ready(&mut self) {
        let ready = wait_until(Duration::from_secs(20), || {
            assert!(self.child.try_wait().unwrap().is_none(), "syslog-ng ended: {}", self.complaints());
            let inlets = NgInlet::ALL.iter().zip(&self.ports);
            inlets.filter(|(inlet, _)| inlet.is_stream()).all(|(_, port)| listens(*port))
                && self.dir.join("log.ng").exists()
        });
        assert!(ready, "syslog-ng does not listen: {}", self.complaints());
    }

    /// Where the relay has to send for this inlet.
    pub(crate) fn url(&self, inlet: NgInlet) -> String {
        let scheme = match inlet {
            NgInlet::Tcp | NgInlet::TcpLf => "tcp",
            NgInlet::Tls | NgInlet::TlsClient => "tls",
            NgInlet::Udp => "udp",
            NgInlet::Unix => return format!("unix:{}/log.ng", self.dir.display()),
        };
        let at = NgInlet::ALL.iter().position(|known| *known == inlet).unwrap();
        format!("{scheme}://127.0.0.1:{}", self.ports[at])
    }

    /// Ends it as its service manager would.
    pub(crate) fn stop(&mut self) {
        let status = end(&mut self.child, Duration::from_secs(30));
        assert!(status.is_some_and(|s| s.success()), "syslog-ng: {status:?} {}", self.complaints());
    }

    /// Starts it again after [`Self::stop`], on the same addresses and appending to the same file.
    pub(crate) fn start_again(&mut self) {
        self.child = Self::spawn(&self.dir);
        self.wait_ready();
    }

    /// Everything written so far, in the order of arrival.
    pub(crate) fn messages(&self) -> Vec<Message> {
        messages_in(&self.dir.join("syslog-ng.jsonl"))
    }

    /// Everything written, once that is at least `count` messages or `limit` has passed.
    pub(crate) fn wait_for(&self, count: usize, limit: Duration) -> Vec<Message> {
        wait_for_messages(&self.dir.join("syslog-ng.jsonl"), count, limit)
    }

    fn complaints(&self) -> String {
        fs::read_to_string(self.dir.join("syslog-ng.stderr")).unwrap_or_default()
    }
}

impl Drop for SyslogNg {
    fn drop(&mut self) {
        end(&mut self.child, Duration::from_secs(10));
    }
}
