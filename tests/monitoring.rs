//! What ships for monitoring fits what the relay says: metrics, alerts, dashboard, docs/monitoring.md; judged by promtool.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use live::{Need, have};
use support::pki::{Kind, Pki};
use support::relay::{Relay, run};
use support::sink::ClosedPort;
use support::tls_sink::TlsSink;
use support::{line, temp_dir, wait_until};

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Every metric that there can be: a destination over TLS with certificates at both ends, and one that is away.
fn page() -> String {
    let dir = temp_dir();
    let pki = Pki::new(&dir.path().join("pki"));
    let sink = TlsSink::new(&pki.server("server", Kind::Good));
    let closed = ClosedPort::new();
    let socket = dir.path().join("status.sock");
    let ca = pki.ca_file();
    let away = format!("tcp://{}", closed.address());
    let arguments = [
        "--to",
        &sink.url("tls"),
        "--to",
        &away,
        "--tls-ca",
        ca.to_str().unwrap(),
        "--status",
        socket.to_str().unwrap(),
    ];
    let (relay, mut feed) = Relay::with(&arguments).by_hand();
    feed.write(&line(0, 0));
    let mut connection = sink.accept();
    connection.read_bytes(1);
    let ask = |form: &str| {
        let output = run(&["status", "--socket", socket.to_str().unwrap(), form]);
        String::from_utf8(output.stdout).unwrap()
    };
    wait_until("the session is in the report", || ask("--json").contains("TLS13_"));
    let page = ask("--prometheus");
    feed.close();
    drop(relay);
    page
}

/// The metrics that `text` names.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c)).filter(|word| word.starts_with("audit_relay_"));
    words.map(str::to_owned).collect()
}

fn known() -> BTreeSet<String> {
    let page = page();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect()
}

#[track_caller]
fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(packaged("packaging/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // `check metrics` ends with 3 where it has advice only.
    assert!(output.status.success(), "{arguments:?}: {}: {said}", output.status);
}

#[test]
fn promtool_has_nothing_against_the_metrics() {
    if !have(&[Need::Program("promtool")]) {
        return;
    }
    let page = page();
    assert!(
        page.contains("audit_relay_receiver_tls_info{") && page.contains("reason=\"refused\"} 0"),
        "{page}"
    );
    promtool(&["check", "metrics"], &page);
}

#[test]
fn promtool_has_nothing_against_the_alerts_and_each_goes_off_when_it_should() {
    if !have(&[Need::Program("promtool")]) {
        return;
    }
    promtool(&["check", "rules", "audit-relay.rules.yml"], "");
    promtool(&["test", "rules", "audit-relay.rules.test.yml"], "");
    let rules = fs::read_to_string(packaged("packaging/prometheus/audit-relay.rules.yml")).unwrap();
    let tried = fs::read_to_string(packaged("packaging/prometheus/audit-relay.rules.test.yml")).unwrap();
    let docs = fs::read_to_string(packaged("docs/monitoring.md")).unwrap();
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 12, "{alerts:?}");
    for alert in alerts {
        // Once quiet, once not.
        let times = tried.matches(&format!("alertname: {alert}\n")).count();
        assert_eq!(times, 2, "{alert}");
        assert!(
            docs.contains(&format!("`{alert}`")),
            "docs/monitoring.md does not say what to do at {alert}"
        );
    }
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let known = known();
    let dashboard = fs::read_to_string(packaged("packaging/grafana/audit-relay.json")).unwrap();
    let rules = fs::read_to_string(packaged("packaging/prometheus/audit-relay.rules.yml")).unwrap();
    for (what, text) in [("dashboard", &dashboard), ("alerts", &rules)] {
        let asked = named(text);
        assert!(asked.len() > 8, "{what}: {asked:?}");
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(unknown.is_empty(), "{what} asks for what there is not: {unknown:?}");
    }
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = parsed["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
}

#[test]
fn each_metric_is_in_the_documentation_and_no_other() {
    let docs = fs::read_to_string(packaged("docs/monitoring.md")).unwrap();
    let table: String = docs.lines().filter(|line| line.starts_with("| `audit_relay_")).collect();
    assert_eq!(named(&table), known());
}
