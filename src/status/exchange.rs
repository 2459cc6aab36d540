//! What is asked, and what is answered. Pure.
//!
//! Promise: one question, one answer, then the end: a line (`json`, `prometheus`), or a request of HTTP/1.0 or 1.1
//! (`GET /metrics`, `GET /status`). Law: bytes are arguments; whatever they are, they get an answer or more are asked
//! for, up to [`LONGEST`].

use core::net::IpAddr;

use super::{JSON, PROMETHEUS, metrics};
use crate::telemetry::Report;

/// Longest question in bytes, headers of HTTP included.
pub(super) const LONGEST: usize = 4096;

/// What is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// The whole report.
    Json,
    /// Metrics in Prometheus's text form.
    Prometheus,
    /// Nothing that there is.
    Unknown,
    /// A method of HTTP other than GET and HEAD.
    NotAllowed,
    /// A web page asks, under a name of its own that leads to this machine (DNS rebinding).
    Foreign,
    /// It does not end.
    TooLong,
}

/// A question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Question {
    pub(super) what: What,
    http: bool,
    /// HEAD: the headers only.
    head: bool,
    /// HTTP: it is meant for a host of another name.
    foreign: bool,
}

impl Question {
    /// The question in `bytes`; `None`: it has not ended yet.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            return (bytes.len() >= LONGEST).then_some(Self {
                what: What::TooLong,
                http: false,
                head: false,
                foreign: false,
            });
        };
        let line = String::from_utf8_lossy(&bytes[..end]);
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [method, path, version] = words[..] else {
            let what = match words[..] {
                [JSON] => What::Json,
                [PROMETHEUS] => What::Prometheus,
                _ => What::Unknown,
            };
            return Some(Self { what, http: false, head: false, foreign: false });
        };
        if !version.starts_with("HTTP/1.") {
            return Some(Self { what: What::Unknown, http: false, head: false, foreign: false });
        }
        // Little of the rest is of interest, but a socket that is closed with data unread is reset.
        let has_ended = memchr::memmem::find(bytes, b"\r\n\r\n").is_some()
            || memchr::memmem::find(bytes, b"\n\n").is_some();
        let what = match (method, path.split('?').next()) {
            _ if !has_ended && bytes.len() >= LONGEST => What::TooLong,
            _ if !has_ended => return None,
            ("GET" | "HEAD", Some("/metrics")) => What::Prometheus,
            ("GET" | "HEAD", Some("/status")) => What::Json,
            ("GET" | "HEAD", _) => What::Unknown,
            _ => What::NotAllowed,
        };
        Some(Self { what, http: true, head: method == "HEAD", foreign: is_foreign(&bytes[end..]) })
    }

    /// The same where only metrics are given, and a browser may be what asks.
    pub(super) fn metrics_only(self) -> Self {
        let what = match self.what {
            _ if self.foreign => What::Foreign,
            What::Json => What::Unknown,
            what => what,
        };
        Self { what, ..self }
    }

    /// True if the report is needed for the answer.
    pub(super) fn needs_report(self) -> bool {
        matches!(self.what, What::Json | What::Prometheus)
    }

    /// The answer's bytes.
    pub(super) fn answer(self, report: &Report) -> Vec<u8> {
        let (status, kind, body) = match self.what {
            What::Json => {
                let text = serde_json::to_string(report).unwrap_or_default();
                ("200 OK", "application/json", text + "\n")
            }
            What::Prometheus => ("200 OK", metrics::CONTENT_TYPE, metrics::text(report)),
            What::Unknown => {
                ("404 Not Found", PLAIN, format!("error: ask for `{JSON}`, `{PROMETHEUS}` or GET /metrics\n"))
            }
            What::NotAllowed => ("405 Method Not Allowed", PLAIN, "error: only GET and HEAD\n".to_owned()),
            What::Foreign => (
                "403 Forbidden",
                PLAIN,
                "error: ask for localhost or an address (the header Host names another host)\n".to_owned(),
            ),
            What::TooLong => {
                ("431 Request Header Fields Too Large", PLAIN, format!("error: more than {LONGEST} bytes\n"))
            }
        };
        if !self.http {
            return body.into_bytes();
        }
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\
             X-Content-Type-Options: nosniff\r\n\r\n"
        );
        if self.head { head.into_bytes() } else { (head + &body).into_bytes() }
    }
}

/// Whether a header `Host` names a host that a page of the web can have come from: no address, and with a dot.
fn is_foreign(headers: &[u8]) -> bool {
    let host = |line: &[u8]| {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        line.strip_prefix("host:").map(|host| host.trim().to_owned())
    };
    headers.split(|byte| *byte == b'\n').filter_map(host).any(|host| {
        let name = match host.strip_prefix('[') {
            Some(address) => address.split(']').next(),
            None => host.split(':').next(),
        };
        let name = name.unwrap_or_default().trim_end_matches('.');
        let ours = name.parse::<IpAddr>().is_ok()
            || name == "localhost.localdomain"
            || name.ends_with(".localhost")
            || !name.contains('.');
        !ours
    })
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(bytes: &str) -> Option<(What, bool, bool)> {
        Question::read(bytes.as_bytes()).map(|q| (q.what, q.http, q.head))
    }

    #[test]
    fn questions() {
        for (bytes, expected) in [
            ("json\n", Some((What::Json, false, false))),
            ("json\r\n", Some((What::Json, false, false))),
            ("prometheus\n", Some((What::Prometheus, false, false))),
            ("jso", None),
            ("\n", Some((What::Unknown, false, false))),
            ("xml\n", Some((What::Unknown, false, false))),
            ("a b c\n", Some((What::Unknown, false, false))),
            ("GET /metrics HTTP/1.1\r\n", None),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Some((What::Prometheus, true, false))),
            ("GET /metrics?a=b HTTP/1.0\n\n", Some((What::Prometheus, true, false))),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Some((What::Prometheus, true, true))),
            ("GET /status HTTP/1.1\r\n\r\n", Some((What::Json, true, false))),
            ("GET / HTTP/1.1\r\n\r\n", Some((What::Unknown, true, false))),
            ("POST /metrics HTTP/1.1\r\n\r\n", Some((What::NotAllowed, true, false))),
            ("PRI * HTTP/2.0\r\n\r\n", Some((What::Unknown, false, false))),
        ] {
            assert_eq!(asked(bytes), expected, "{bytes:?}");
        }
        let endless = "GET /metrics HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(LONGEST);
        assert_eq!(asked(&endless[..LONGEST]), Some((What::TooLong, true, false)));
        assert_eq!(asked(&"x".repeat(LONGEST)), Some((What::TooLong, false, false)));
        let json = Question::read(b"json\n").unwrap();
        assert_eq!(json.metrics_only().what, What::Unknown);
    }

    #[test]
    fn a_page_of_the_web_gets_nothing_over_the_port() {
        for (host, expected) in [
            ("localhost:9101", What::Prometheus),
            ("localhost", What::Prometheus),
            ("127.0.0.1:9101", What::Prometheus),
            ("[::1]:9101", What::Prometheus),
            ("web-1", What::Prometheus),
            ("relay.localhost", What::Prometheus),
            ("evil.example.org:9101", What::Foreign),
            ("evil.example.org.", What::Foreign),
            ("127.0.0.1.example.org", What::Foreign),
            ("[evil.example.org]", What::Foreign),
        ] {
            for header in ["Host: ", "HOST:", "Accept: */*\r\nhost: "] {
                let request = format!("GET /metrics HTTP/1.1\r\n{header}{host}\r\n\r\n");
                let question = Question::read(request.as_bytes()).unwrap();
                assert_eq!(question.metrics_only().what, expected, "{request}");
                // No browser asks over a socket in the file system.
                assert_eq!(question.what, What::Prometheus);
            }
        }
        assert!(!Question::read(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap().foreign);
    }

    #[test]
    fn answers_of_http_say_how_long_they_are() {
        let report = Report::default();
        for request in ["GET /metrics", "GET /status", "HEAD /metrics", "GET /x", "PUT /metrics"] {
            let question = Question::read(format!("{request} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
            let answer = String::from_utf8(question.answer(&report)).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let expected: usize = length.parse().unwrap();
            assert!(
                expected > 0 && body.len() == if question.head { 0 } else { expected },
                "{request}: {head}"
            );
        }
        let line = Question::read(b"json\n").unwrap().answer(&report);
        assert_eq!(serde_json::from_slice::<Report>(&line).unwrap(), report);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_answered_in_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let full: Vec<u8> = bytes.iter().copied().cycle().take(LONGEST).collect();
            if !full.is_empty() {
                let question = Question::read(&full).unwrap();
                prop_assert!(!question.answer(&Report::default()).is_empty());
            }
        }
    }
}
