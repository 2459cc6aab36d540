//! The servers that come with OpenSSL and GnuTLS: two TLS libraries without a syslog receiver around them.
//!
//! Law: ended with its handle. OpenSSL's listens on the loopback interface; GnuTLS's on every one there is, so
//! it is for a network of the test's own.

#![allow(dead_code, reason = "several test programs share this file and each uses its part")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::live::{TlsFiles, command, end, free_tcp_ports, listens, wait_until};

/// The one version that the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct TlsProgram {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl TlsProgram {
    /// `openssl s_server`, which prints what it gets and nothing else.
    pub(crate) fn openssl(version: Version, dir: &Path, tls: &TlsFiles, client_certificate: bool) -> Self {
        Self::start(dir, |port| {
            let mut command = command("setpriv");
            command.args(["--pdeathsig", "KILL", "openssl", "s_server", "-quiet", "-accept"]);
            command.arg(format!("127.0.0.1:{port}"));
            command.arg("-cert").arg(&tls.certificate).arg("-key").arg(&tls.key);
            command.arg(if version == Version::Tls12 { "-tls1_2" } else { "-tls1_3" });
            if client_certificate {
                command.args(["-Verify", "1", "-verify_return_error", "-CAfile"]).arg(&tls.ca);
            }
            command
        })
    }

    /// `gnutls-serv`, which prints no content that has no line feed, but the length of each record it decrypts.
    pub(crate) fn gnutls(version: Version, dir: &Path, tls: &TlsFiles, client_certificate: bool) -> Self {
        Self::start(dir, |port| {
            let mut command = command("setpriv");
            command.args(["--pdeathsig", "KILL", "gnutls-serv", "--echo", "--debug=5"]);
            command.arg(format!("--port={port}"));
            command.arg("--x509certfile").arg(&tls.certificate).arg("--x509keyfile").arg(&tls.key);
            let name = if version == Version::Tls12 { "1.2" } else { "1.3" };
            command.arg(format!("--priority=NORMAL:-VERS-ALL:+VERS-TLS{name}"));
            if client_certificate {
                command.args(["--require-client-cert", "--verify-client-cert", "--x509cafile"]).arg(&tls.ca);
            } else {
                command.arg("--disable-client-cert");
            }
            command
        })
    }

    fn start(dir: &Path, program: impl Fn(u16) -> std::process::Command) -> Self {
        let port = free_tcp_ports(1)[0];
        let file = |name: &str| File::create(dir.join(name)).unwrap();
        let child = program(port)
            // Held open: both end, or end the connection, with their input.
            .stdin(Stdio::piped())
            .stdout(file("program.stdout"))
            .stderr(file("program.stderr"))
            .spawn()
            .unwrap();
        let mut this = Self { child, dir: dir.to_owned(), port };
        let ready = wait_until(Duration::from_secs(10), || {
            assert!(this.child.try_wait().unwrap().is_none(), "the server ended: {}", this.stderr());
            listens(port)
        });
        assert!(ready, "the server does not listen: {}", this.stderr());
        this
    }

    pub(crate) fn url(&self) -> String {
        format!("tls://127.0.0.1:{}", self.port)
    }

    /// Everything that the server has printed.
    pub(crate) fn stdout(&self) -> Vec<u8> {
        fs::read(self.dir.join("program.stdout")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("program.stderr")).unwrap()).into_owned()
    }

    /// Bytes of content that GnuTLS has decrypted.
    pub(crate) fn decrypted(&self) -> u64 {
        let lengths = self.stderr();
        let length = |line: &str| {
            let (_, rest) = line.split_once("Decrypted Packet")?;
            let (_, length) = rest.split_once("Application Data(23) with length: ")?;
            length.trim().parse::<u64>().ok()
        };
        lengths.lines().filter_map(length).sum()
    }
}

impl Drop for TlsProgram {
    fn drop(&mut self) {
        end(&mut self.child, Duration::from_secs(5));
    }
}
