//! What of a changed configuration a running relay cannot take up. Pure.
//!
//! Law: every field of [`Config`] is named in [`Config::waiting`], so that a new one does not compile before somebody has
//! said when a change of it takes effect.

use super::{Config, Destination};

impl Config {
    /// The keys whose change from `self` to `new` takes effect when the relay is started again, and not on a reload.
    pub fn waiting(&self, new: &Self) -> Vec<&'static str> {
        let Self {
            input,
            destinations,
            // A reload takes these up.
            facility: _,
            severity: _,
            hostname: _,
            app_name: _,
            structured_data: _,
            drop_eoe: _,
            drain_timeout: _,
            statistics_interval: _,
            gather,
            threads,
            handover,
            confine,
            user,
            report,
            status,
            status_group,
            metrics,
            metrics_file,
            metrics_interval,
            log,
        } = self;
        [
            (*input != new.input, "input"),
            (another_queue_size(destinations, &new.destinations), "queue-size"),
            (*gather != new.gather, "gather"),
            (*threads != new.threads, "threads"),
            (*handover != new.handover, "handover"),
            (*confine != new.confine, "confine"),
            (*user != new.user, "user"),
            (*report != new.report, "report"),
            (*status != new.status, "status"),
            (*status_group != new.status_group, "status-group"),
            (*metrics != new.metrics, "metrics"),
            (*metrics_file != new.metrics_file, "metrics-file"),
            (*metrics_interval != new.metrics_interval, "metrics-interval"),
            (*log != new.log, "log"),
        ]
        .into_iter()
        .filter_map(|(changed, key)| changed.then_some(key))
        .collect()
    }
}

/// True if a destination that was there has another `queue-size`. One that is new begins with its own.
fn another_queue_size(old: &[Destination], new: &[Destination]) -> bool {
    let changed = |new: &Destination, old: &Destination| {
        // As the two are told apart: with another framing it is made anew.
        new.route == old.route && new.framing == old.framing && new.queue_size != old.queue_size
    };
    new.iter().any(|new| old.iter().any(|old| changed(new, old)))
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    /// A key, and two lines of it that differ.
    const CHANGES: &[(&str, &str, &str)] = &[
        ("to", "to = \"tcp://a\"", "to = \"tcp://b\""),
        ("failover", "failover = [\"tcp://a\", \"tcp://b\"]", "failover = [\"tcp://a\", \"tcp://c\"]"),
        ("balance", "balance = [\"tcp://a\", \"tcp://b\"]", "balance = [\"tcp://a\", \"tcp://c\"]"),
        ("destination", "[[destination]]\nurl = \"tcp://a\"", "[[destination]]\nurl = \"tcp://b\""),
        ("format", "format = \"rfc5424\"", "format = \"rfc3164\""),
        ("framing", "to = \"tcp://a\"\nframing = \"lf\"", "to = \"tcp://a\"\nframing = \"octet\""),
        ("on-full", "on-full = \"block\"", "on-full = \"drop-oldest\""),
        ("queue-size", "queue-size = \"1MiB\"", "queue-size = \"2MiB\""),
        ("max-message-size", "max-message-size = \"1KiB\"", "max-message-size = \"2KiB\""),
        ("replay", "to = \"tcp://a\"", "to = \"tcp://a\"\nreplay = \"off\""),
        ("connect-timeout", "to = \"tcp://a\"", "to = \"tcp://a\"\nconnect-timeout = \"1s\""),
        ("tcp-user-timeout", "to = \"tcp://a\"", "to = \"tcp://a\"\ntcp-user-timeout = \"1s\""),
        ("tcp-keepalive", "to = \"tcp://a\"", "to = \"tcp://a\"\ntcp-keepalive = \"1s\""),
        ("relp-window", "to = \"relp://a\"", "to = \"relp://a\"\nrelp-window = 7"),
        ("tls-verify", "to = \"tls://a\"", "to = \"tls://a\"\ntls-verify = \"none\""),
        ("tls-ca", "to = \"tls://a\"", "to = \"tls://a\"\ntls-ca = \"/ca\""),
        ("tls-pin", "to = \"tls://a\"", PIN),
        ("tls-name", "to = \"tls://a\"", "to = \"tls://a\"\ntls-name = \"n\""),
        ("tls-cert", "to = \"tls://a\"", "to = \"tls://a\"\ntls-cert = \"/c\"\ntls-key = \"/k\""),
        ("tls-key", "to = \"tls://a\"", "to = \"tls://a\"\ntls-cert = \"/c\"\ntls-key = \"/l\""),
        ("tls-crl", "to = \"tls://a\"", "to = \"tls://a\"\ntls-crl = \"/l\""),
        ("input", "input = \"text\"", "input = \"binary\""),
        ("facility", "facility = \"auth\"", "facility = \"user\""),
        ("severity", "severity = \"info\"", "severity = \"notice\""),
        ("hostname", "hostname = \"a\"", "hostname = \"b\""),
        ("app-name", "app-name = \"a\"", "app-name = \"b\""),
        ("structured-data", "structured-data = \"meta\"", "structured-data = \"none\""),
        (
            "enterprise-number",
            "structured-data = \"audit\"\nenterprise-number = 1",
            "structured-data = \"audit\"\nenterprise-number = 2",
        ),
        ("eoe", "eoe = \"drop\"", "eoe = \"keep\""),
        ("gather", "gather = \"1ms\"", "gather = \"2ms\""),
        ("threads", "threads = \"1\"", "threads = \"2\""),
        ("confine", "confine = \"auto\"", "confine = \"off\""),
        ("drain-timeout", "drain-timeout = \"1s\"", "drain-timeout = \"2s\""),
        ("handover", "handover = \"/run/a\"", "handover = \"/run/b\""),
        ("user", "user = \"a\"", "user = \"b\""),
        ("report", "report = \"/run/a\"", "report = \"/run/b\""),
        ("status", "status = \"/run/a\"", "status = \"/run/b\""),
        ("status-group", "status = \"/s\"\nstatus-group = \"a\"", "status = \"/s\"\nstatus-group = \"b\""),
        ("metrics", "metrics = \"127.0.0.1:1\"", "metrics = \"127.0.0.1:2\""),
        ("metrics-file", "metrics-file = \"/a.prom\"", "metrics-file = \"/b.prom\""),
        ("metrics-interval", "metrics-interval = \"1s\"", "metrics-interval = \"2s\""),
        ("statistics-interval", "statistics-interval = \"1s\"", "statistics-interval = \"2s\""),
        ("log", "log = \"stderr\"", "log = \"none\""),
    ];
    const PIN: &str = "to = \"tls://a\"\n\
        tls-pin = \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";

    fn of_documents() -> Vec<String> {
        let page = include_str!("../../docs/configuration.md");
        let (_, from) = page.split_once("A changed\n").unwrap();
        let (keys, _) = from.split_once(" waits for the next start").unwrap();
        keys.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// Of every key that there is, a change either waits for the next start, as the documents have it, or does not.
    #[test]
    fn every_key_is_known_to_wait_or_not_to_wait() {
        let unknown = toml::from_str::<Settings>("x = 1").unwrap_err();
        let mut keys: Vec<_> = unknown.message().split('`').skip(3).step_by(2).collect();
        keys.retain(|key| *key != "verify");
        let mut tried: Vec<_> = CHANGES.iter().map(|(key, ..)| *key).collect();
        keys.sort_unstable();
        tried.sort_unstable();
        assert_eq!(keys, tried, "a new key belongs into this table, and into the documents if it waits");
        let waiting = of_documents();
        assert!(waiting.len() > 10, "{waiting:?}");
        for (key, old, new) in CHANGES {
            let config = |text: &str| toml::from_str::<Settings>(text).unwrap().validate().unwrap();
            let (old, new) = (config(old), config(new));
            assert_ne!(old, new, "{key}");
            let said = old.waiting(&new);
            let expected: &[&str] = if waiting.iter().any(|waiting| waiting == key) { &[key] } else { &[] };
            assert_eq!(said, expected, "{key}");
            assert!(new.waiting(&new).is_empty());
        }
    }
}
