//! The packaged audit rules on the running kernel, under a real auditd, through the relay, to a real rsyslogd.
//!
//! Each test has a machine of its own (`support/machine.rs`): Debian 12 with auditd 3.0.9 or Debian sid with auditd 4.2.1. There each
//! rule is made to match, then taken out and made not to: a rule that does nothing is found as well as one that is missing. The
//! scenarios are the list that the rules are to cover, done with the programs that a machine has.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]
#![allow(clippy::print_stderr, reason = "for whoever reads a failure")]

#[path = "support/live.rs"]
mod live;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/rules.rs"]
mod rules;
#[path = "support/scenarios.rs"]
mod scenarios;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use live::{
    Inlet, KernelAudit, Need, Report, Rsyslogd, System, command, user_message, user_messages, wait_until,
};
use machine::{Daemon, Machine, packaged};
use rules::{Abi, Calls, Mark, PERSON, Probe, Rule, Who, changes, probe};
use scenarios::scenarios;

/// Dropped in this order, so that the kernel is given back when no one uses it.
struct Rig {
    auditd: Daemon,
    machine: Machine,
    rsyslogd: Rsyslogd,
    kernel: KernelAudit,
    dir: tempfile::TempDir,
    calls: Calls,
    /// Markers sent so far.
    marks: usize,
}

impl Rig {
    /// None: the test is skipped, and has said why.
    fn start(system: System, auditd_conf: &str) -> Option<Self> {
        if !live::have(&machine::NEEDS) || (system == System::Sid && !live::have(&[Need::Sid])) {
            return None;
        }
        let kernel = KernelAudit::take()?;
        let dir = live::temp_dir();
        let rsyslogd = Rsyslogd::start(System::Host, dir.path());
        let machine = Machine::start(system, dir.path());
        machine.compile_call();
        machine.install_relay(&packaged(auditd_conf), &rsyslogd.url(Inlet::TcpOctet));
        let auditd = machine.start_auditd();
        Some(Self { auditd, machine, rsyslogd, kernel, dir, calls: Calls::read(), marks: 0 })
    }

    /// Puts the rules where the package has them and loads them as its documentation says.
    fn install_rules(&self) -> Output {
        let from = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging");
        let to = self.machine.path("/usr/share/audit-relay");
        fs::create_dir_all(&to).unwrap();
        let copied = command("cp").arg("-r").arg(format!("{from}/.")).arg(&to).status().unwrap();
        assert!(copied.success());
        self.machine.shell("/usr/share/audit-relay/install-audit-rules")
    }

    /// Loads what is in /etc/audit/rules.d; nothing may be complained about.
    fn load_rules(&self) -> Vec<Rule> {
        let output =
            self.machine.shell("augenrules --load >/run/augenrules 2>&1; echo $?; cat /run/augenrules");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let bad = ["rror", "nknown", "arning", "WARN", "ld style"].iter().any(|word| text.contains(word));
        assert!(text.starts_with("0\n") && !bad, "augenrules: {text}");
        let loaded = self.machine.must("cat /etc/audit/audit.rules");
        let rules: Vec<Rule> =
            rules::read(&loaded, "audit.rules").into_iter().filter(Rule::is_rule).collect();
        let listed = self.machine.must("auditctl -l");
        assert_eq!(listed.lines().count(), rules.len(), "auditctl lists another number of rules");
        rules
    }

    /// Writes a marker into the stream; what follows belongs to it.
    fn mark(&mut self) -> usize {
        self.marks += 1;
        user_message(&format!("op=ar-mark n={} ", self.marks));
        self.marks
    }

    fn run(&mut self, who: Who, act: &str) -> usize {
        let number = self.mark();
        let login = format!("echo {PERSON} >/proc/self/loginuid && ");
        let script = match who {
            Who::User => {
                format!("{login} exec setpriv --reuid {PERSON} --regid {PERSON} --clear-groups sh -c '{act}'")
            }
            Who::Root => format!("{login} exec sh -c '{act}'"),
            Who::Daemon => act.to_owned(),
        };
        if script.is_empty() {
            user_messages([(2404, b"op=negotiate kind=server and sixteen bytes that may get lost".to_vec())]);
        } else {
            self.machine.command("timeout").args(["20", "sh", "-c", &script]).output().unwrap();
        }
        // What comes next is not its doing.
        self.mark();
        number
    }

    fn probe(&mut self, probe: &Probe) -> usize {
        if !probe.prepare.is_empty() {
            self.machine.must(&probe.prepare);
        }
        self.run(probe.who, &probe.act)
    }

    /// What arrived at rsyslogd, by marker, once all of it has.
    fn arrived(&mut self) -> Vec<Vec<String>> {
        let last = format!("op=ar-mark n={} ", self.mark());
        let file = self.dir.path().join("received.jsonl");
        let there = wait_until(Duration::from_secs(60), || {
            fs::read(&file).unwrap_or_default().windows(last.len()).rev().any(|w| w == last.as_bytes())
        });
        assert!(there, "{last:?} did not reach rsyslogd");
        self.kernel_undisturbed();
        let mut sections = vec![Vec::new()];
        for message in self.rsyslogd.messages() {
            if message.text().contains("op=ar-mark n=") {
                sections.push(Vec::new());
            }
            sections.last_mut().unwrap().push(message.text().to_owned());
        }
        sections
    }

    fn kernel_undisturbed(&self) {
        let now = live::Status::read().unwrap();
        assert_eq!((now.enabled, now.pid), (1, u64::from(self.auditd.pid())), "{now:?}");
        assert_eq!(now.lost, self.kernel_found_lost(), "the kernel has dropped records: {now:?}");
    }

    fn kernel_found_lost(&self) -> u64 {
        self.kernel.found_lost()
    }
}

/// Whether the records are those of what the mark stands for.
fn seen(mark: &Mark, records: &[String]) -> bool {
    let keyed = |text: &String, key: &str| {
        text.starts_with("type=SYSCALL ") && text.contains(&format!(" key=\"{key}\""))
    };
    match mark {
        Mark::Key(key, abi) => {
            records.iter().any(|text| keyed(text, key) && abi.is_none_or(|abi| text.contains(abi.record())))
        }
        Mark::Both(key) => {
            [Abi::B64, Abi::B32].iter().all(|abi| seen(&Mark::Key(key.clone(), Some(*abi)), records))
        }
        Mark::KeyAnd(key, word) => {
            records.iter().any(|text| keyed(text, key)) && records.iter().any(|text| text.contains(word))
        }
        // Executions have rules of their own.
        Mark::Never(words) => !records.iter().any(|text| {
            text.starts_with(&format!("type={} ", words[0]))
                && !text.contains(" syscall=59 ")
                && words[1..].iter().all(|word| text.contains(word))
        }),
    }
}

/// A probe or scenario that was run, and whether it has to be seen.
struct Run {
    section: usize,
    wanted: bool,
    mark: Mark,
    what: String,
}

impl Run {
    /// One, or where both ABIs have to be seen, or neither, one for each.
    fn of(section: usize, wanted: bool, mark: &Mark, what: &str) -> Vec<Self> {
        let marks = match mark {
            Mark::Both(key) => {
                [Abi::B64, Abi::B32].map(|abi| Mark::Key(key.clone(), Some(abi))).into_iter().collect()
            }
            mark => vec![mark.clone()],
        };
        marks.into_iter().map(|mark| Self { section, wanted, mark, what: what.to_owned() }).collect()
    }
}

/// Every rule matches what it is for; without it, whatever else is loaded does not. Every scenario is seen, and without the rules of its
/// key is not.
fn every_rule(system: System, version: &str) {
    let started = Instant::now();
    let Some(mut rig) = Rig::start(system, "auditd/auditd-relay-and-disk.conf") else {
        return;
    };
    let packaged = rules::packaged();
    for rule in packaged.iter().filter(|rule| rule.is_rule()) {
        if let Some(dir) = rule.value("dir=") {
            rig.machine.must(&format!("mkdir -p {dir}"));
        }
        for file in ["path=", "exe="].iter().filter_map(|field| rule.value(field)) {
            let make = if rule.value("perm=") == Some("x") { "cp /bin/true" } else { "touch" };
            rig.machine.must(&format!("mkdir -p $(dirname {file}); [ -e {file} ] || {make} {file}"));
        }
    }
    let scenarios = scenarios(system);
    for scenario in &scenarios {
        rig.machine.must(&scenario.prepare);
    }
    let installed = rig.install_rules();
    let said = String::from_utf8_lossy(&installed.stderr).into_owned();
    assert!(installed.status.success() && said.contains(" 0 rules left out"), "{said}");
    let loaded = rig.load_rules();
    assert_eq!(loaded.len(), packaged.iter().filter(|rule| rule.is_rule()).count());

    let probes: Vec<(&Rule, Probe)> = packaged
        .iter()
        .filter(|rule| rule.is_rule())
        .filter_map(|rule| Some((rule, probe(rule, &rig.calls)?)))
        .collect();
    let mut runs = Vec::new();
    // Everything loaded.
    for (rule, probe) in &probes {
        let section = rig.probe(probe);
        runs.extend(Run::of(section, true, &probe.mark, &rule.line));
    }
    for scenario in &scenarios {
        let section = rig.run(scenario.who, &scenario.act);
        runs.push(Run { section, wanted: true, mark: scenario.mark.clone(), what: scenario.title.into() });
    }
    for abi in [Abi::B64, Abi::B32] {
        for probe in changes(&rig.calls, abi) {
            let section = rig.probe(&probe);
            runs.push(Run {
                section,
                wanted: true,
                mark: probe.mark,
                what: format!("{abi:?}: {}", probe.act),
            });
        }
    }
    // Each rule taken out, and those before it with it; then all again, and those behind it with it. So nothing that is loaded does
    // what it does.
    let mut gone = BTreeSet::new();
    for pass in ["those behind it", "those before it"] {
        let mut order: Vec<_> = probes.iter().collect();
        if pass == "those before it" {
            rig.load_rules();
            order.reverse();
            // What is left out is only seen to be while the rules behind it would catch it.
            order.retain(|(_, probe)| !matches!(probe.mark, Mark::Never(_)));
        }
        for (n, (rule, probe)) in order.iter().enumerate() {
            rig.machine
                .must(&format!("auditctl {}", rule.removal().replace('&', "\\&").replace(">=", "\\>=")));
            let section = rig.probe(probe);
            let what = format!("with {pass}, without {}", rule.line);
            runs.extend(Run::of(section, false, &probe.mark, &what));
            let key = rule.key();
            let last = order[n + 1..].iter().all(|(later, _)| later.key() != key);
            if pass == "those behind it" && last && !key.is_empty() && gone.insert(key) {
                for scenario in scenarios.iter().filter(|scenario| scenario.key == key) {
                    let section = rig.run(scenario.who, &scenario.act);
                    let what = format!("without {key}: {}", scenario.title);
                    runs.push(Run { section, wanted: false, mark: scenario.mark.clone(), what });
                }
            }
        }
    }
    let sections = rig.arrived();
    check_version(&rig.machine, version);

    let wrong: Vec<String> = runs
        .iter()
        .filter(|run| seen(&run.mark, &sections[run.section]) != run.wanted)
        .map(|run| {
            let calls = sections[run.section].iter().filter(|text| text.starts_with("type=SYSCALL "));
            let shown: Vec<_> = calls.take(12).collect();
            format!("wanted {}: {}\n    {:?}\n    {shown:#?}", run.wanted, run.what, run.mark)
        })
        .collect();
    let records: usize = sections.iter().map(Vec::len).sum();
    eprintln!(
        "auditd {version}: {} rules, {} probes and scenarios run {} times, {records} records arrived, {:.0?}",
        loaded.len(),
        probes.len() + scenarios.len(),
        runs.len(),
        started.elapsed()
    );
    if let Ok(file) = std::env::var("AUDIT_RULES_TABLE") {
        write_table(&file, version, &runs, &sections);
    }
    assert!(
        wrong.is_empty(),
        "{} of {} wrong, at first:\n{}",
        wrong.len(),
        runs.len(),
        wrong[..wrong.len().min(4)].join("\n")
    );

    rig.auditd.stop();
    Report::read(&rig.machine.report()).check_sum();
}

/// One line a run: for the record.
fn write_table(file: &str, version: &str, runs: &[Run], sections: &[Vec<String>]) {
    use std::io::Write as _;
    let mut out = fs::File::options().append(true).create(true).open(file).unwrap();
    for run in runs {
        let seen = seen(&run.mark, &sections[run.section]);
        let verdict = if seen == run.wanted { "as wanted" } else { "WRONG" };
        let text: Vec<_> = run
            .what
            .split(' ')
            .map(|word| if word.split(',').count() > 6 { word.split_at(20).0 } else { word })
            .collect();
        writeln!(out, "{version} {verdict} {} {}", if seen { "found" } else { "not-found" }, text.join(" "))
            .unwrap();
    }
}

fn check_version(machine: &Machine, version: &str) {
    let log = fs::read_to_string(machine.path("/var/log/audit/audit.log")).unwrap_or_default();
    assert!(log.contains(&format!(" ver={version} ")), "another auditd than {version}");
}

#[test]
fn auditd_3_every_rule_and_every_scenario() {
    every_rule(System::Host, "3.0.9");
}

#[test]
fn auditd_4_every_rule_and_every_scenario() {
    every_rule(System::Sid, "4.2.1");
}

/// On a machine as it is installed, with the folders it has: nothing that it cannot load is put there. Then the disk log is switched off and on
/// again as docs/audit-rules.md says.
fn as_installed(system: System) {
    let Some(mut rig) = Rig::start(system, "auditd/auditd-relay-and-disk.conf") else {
        return;
    };
    rig.machine.write("/etc/audit/rules.d/audit.rules", "-D\n-b 8192\n-f 1\n", 0o640);
    let installed = rig.install_rules();
    let said = String::from_utf8_lossy(&installed.stderr).into_owned();
    assert!(installed.status.success(), "{said}");
    // One line for all of it.
    let missing: Vec<_> =
        said.lines().filter(|line| line.contains("rules for what is not there: ")).collect();
    assert!(matches!(missing[..], [line] if line.contains("/etc/letsencrypt")), "{said}");
    assert!(said.lines().count() < 6, "{said}");
    assert!(said.contains("/etc/audit/rules.d/audit.rules sets -b 8192,-f 1, too"), "{said}");
    fs::remove_file(rig.machine.path("/etc/audit/rules.d/audit.rules")).unwrap();
    let loaded = rig.load_rules();
    assert!(loaded.len() > 100, "{} rules", loaded.len());
    assert!(!loaded.iter().any(|rule| rule.line.contains("letsencrypt")));
    assert_eq!(live::Status::read().unwrap().backlog_limit, 65536);

    let log = rig.machine.path("/var/log/audit/audit.log");
    let logged = |rig: &mut Rig, title: &str| {
        let before = fs::read(&log).map_or(0, |text| text.len());
        let section = rig.run(Who::Root, "useradd --help");
        let sections = rig.arrived();
        assert!(seen(&Mark::Key("ar-account".into(), None), &sections[section]), "{title}");
        fs::read(&log).map_or(0, |text| text.len()) > before
    };
    assert!(logged(&mut rig, "with a disk log"), "nothing in the disk log");
    for (conf, disk) in
        [("auditd/auditd-relay-only.conf", false), ("auditd/auditd-relay-and-disk.conf", true)]
    {
        rig.machine.write("/etc/audit/auditd.conf", &packaged(conf), 0o640);
        rig.auditd.reload();
        // auditd 4.2 starts the relay anew.
        thread::sleep(Duration::from_secs(1));
        assert!(wait_until(Duration::from_secs(10), || rig.auditd.relay().is_some()), "no relay with {conf}");
        assert_eq!(logged(&mut rig, conf), disk, "in the disk log with {conf}");
    }
    rig.auditd.stop();
    Report::read(&rig.machine.report()).check_sum();

    // Without one from the start.
    rig.machine.write("/etc/audit/auditd.conf", &packaged("auditd/auditd-relay-only.conf"), 0o640);
    rig.auditd = rig.machine.start_auditd();
    assert!(!logged(&mut rig, "started without a disk log"));
    rig.auditd.stop();

    // A disk with less room than both limits: auditd leaves off writing, and the records go on.
    let full = packaged("auditd/auditd-relay-and-disk.conf")
        .replace("\nspace_left = 500\n", "\nspace_left = 90000000\n")
        .replace("\nadmin_space_left = 100\n", "\nadmin_space_left = 80000000\n");
    rig.machine.write("/etc/audit/auditd.conf", &full, 0o640);
    rig.auditd = rig.machine.start_auditd();
    logged(&mut rig, "until the limit is noticed");
    // It looks at the room now and then.
    user_messages((0..2000).map(|n| (1107, format!("op=filling n={n} {}", "x".repeat(1000)).into_bytes())));
    assert!(!logged(&mut rig, "on a full disk"), "auditd goes on writing on a full disk");
    rig.auditd.stop();
    Report::read(&rig.machine.report()).check_sum();
}

#[test]
fn auditd_3_as_installed_and_the_disk_log_off_and_on() {
    as_installed(System::Host);
}

#[test]
fn auditd_4_as_installed_and_the_disk_log_off_and_on() {
    as_installed(System::Sid);
}

/// What the script puts into a root of its own: the rules, and what it said.
fn adapted(options: &[&str]) -> (Vec<Rule>, String) {
    let root = live::temp_dir();
    for rule in rules::packaged() {
        for field in ["dir=", "path=", "exe="] {
            if let Some(path) = rule.value(field) {
                fs::create_dir_all(format!("{}{path}", root.path().display())).unwrap();
            }
        }
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/install-audit-rules");
    let output = command(script).arg("--root").arg(root.path()).args(options).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let mut files: Vec<_> =
        fs::read_dir(root.path().join("etc/audit/rules.d")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let all = files.iter().flat_map(|file| rules::read(&fs::read_to_string(file).unwrap(), "adapted"));
    (all.filter(Rule::is_rule).collect(), said)
}

#[test]
fn both_abis_have_each_rule() {
    // The numbers of arguments, the folders and the users are the same; the calls are compared by what they do.
    let shape = |rule: &Rule| {
        let calls = rule.value("-S ").unwrap_or("").to_owned();
        rule.line.replace(&format!("-S {calls} "), "").replace("arch=b32", "arch=b64")
    };
    let rules = rules::packaged();
    let of = |abi| {
        let mut shapes: Vec<String> = rules.iter().filter(|r| r.abi() == Some(abi)).map(shape).collect();
        shapes.sort();
        shapes
    };
    assert!(of(Abi::B64).len() > 15);
    assert_eq!(of(Abi::B64), of(Abi::B32));
    let keys: BTreeSet<&str> = rules.iter().map(Rule::key).filter(|key| !key.is_empty()).collect();
    let documented = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit-rules.md")).unwrap();
    for key in keys {
        assert!(key.starts_with("ar-"), "{key}");
        assert!(documented.contains(&format!("| `{key}` |")), "docs/audit-rules.md has no {key}");
    }
}

#[test]
fn without_32_bit_programs_there_are_no_rules_for_them() {
    let (all, _) = adapted(&["--machine", "x86_64"]);
    let (rules, said) = adapted(&["--machine", "x86_64", "--no-32bit"]);
    assert_eq!(all.len(), rules::packaged().iter().filter(|rule| rule.is_rule()).count());
    assert!(!rules.iter().any(|rule| rule.abi() == Some(Abi::B32)), "{said}");
    assert_eq!(rules.len(), all.iter().filter(|rule| rule.abi() != Some(Abi::B32)).count());
    assert!(said.contains("which this machine does not run"), "{said}");
}

/// What the script finds out by itself, on a machine whose kernel and processor are played: by its configuration, its
/// command line (none is played: this one's says nothing of it), and by the words with which setarch(8) fails.
#[test]
fn whether_32_bit_programs_run_is_asked_of_kernel_and_processor() {
    if fs::read_to_string("/proc/cmdline").unwrap().contains("ia32_emulation") {
        eprintln!("SKIPPED: this kernel was told about ia32_emulation");
        assert!(std::env::var_os("CI").is_none(), "and CI skips nothing");
        return;
    }
    let on = "CONFIG_IA32_EMULATION=y\nCONFIG_COMPAT=y\n";
    let waits = format!("{on}CONFIG_IA32_EMULATION_DEFAULT_DISABLED=y\n");
    let einval = "echo 'setarch: failed to set personality to linux32: Invalid argument' >&2; exit 1";
    let eperm = "echo 'setarch: failed to set personality to linux32: Operation not permitted' >&2; exit 1";
    for (machine, config, setarch, runs) in [
        ("x86_64", on, einval, true),
        ("x86_64", "# CONFIG_IA32_EMULATION is not set\nCONFIG_COMPAT=y\n", "exit 0", false),
        ("x86_64", &waits, "exit 0", false),
        ("aarch64", "CONFIG_COMPAT=y\n", "exit 0", true),
        ("aarch64", "CONFIG_COMPAT=y\n", einval, false),
        ("aarch64", "CONFIG_COMPAT=y\n", eperm, true),
        ("aarch64", "# CONFIG_COMPAT is not set\n", "exit 0", false),
    ] {
        let root = live::temp_dir();
        let bin = root.path().join("bin");
        fs::create_dir_all(root.path().join("boot")).unwrap();
        fs::create_dir(&bin).unwrap();
        fs::write(root.path().join("boot/config-9.9.9"), config).unwrap();
        let uname = format!("case $1 in -r) echo 9.9.9 ;; *) echo {machine} ;; esac");
        for (name, script) in [("uname", uname.as_str()), ("setarch", setarch), ("ausyscall", "exit 0")] {
            fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/install-audit-rules");
        let output = command("/bin/sh")
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()))
            .args([script, "--dry-run", "--root"])
            .arg(root.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let left_out = said.contains("for 32-bit programs, which this machine does not run");
        assert_eq!(left_out, !runs, "{machine}, {config:?}, {setarch}: {said}");
    }
}

/// The calls of the rules that arm64 does not have: it has only their `at` forms (include/uapi/asm-generic/unistd.h of Linux).
const NOT_ON_ARM64: [&str; 12] = [
    "chmod", "chown", "creat", "lchown", "link", "mkdir", "mknod", "open", "rename", "rmdir", "symlink",
    "unlink",
];

/// The set that an arm64 machine gets. auditctl 3.0.9 on Linux 6.1 and 4.2.1 on Linux 7.2 loaded it there, but for 32-bit
/// `kexec_load`, which came after that.
#[test]
fn on_arm64_there_are_all_rules_with_only_the_calls_that_it_has() {
    if !live::have(&[Need::Program("ausyscall")]) {
        return;
    }
    let mut missing = BTreeSet::new();
    let mut expected = Vec::new();
    for rule in rules::packaged().into_iter().filter(Rule::is_rule) {
        let calls = rule.calls();
        let kept: Vec<_> = match rule.abi() {
            Some(Abi::B64) => calls.iter().copied().filter(|call| !NOT_ON_ARM64.contains(call)).collect(),
            // 32-bit programs have all of them; i386's number of kexec_load is connect's there.
            Some(Abi::B32) => {
                calls.iter().map(|call| if *call == "283" { "kexec_load" } else { call }).collect()
            }
            None => calls.clone(),
        };
        if kept.is_empty() && !calls.is_empty() {
            missing.insert(calls.join(","));
            continue;
        }
        let all = format!("-S {} ", calls.join(","));
        expected.push(rule.line.replace(&all, &format!("-S {} ", kept.join(","))));
    }
    let (rules, said) = adapted(&["--machine", "aarch64"]);
    assert_eq!(rules.into_iter().map(|rule| rule.line).collect::<Vec<_>>(), expected, "{said}");
    assert_eq!(
        missing.into_iter().collect::<Vec<_>>(),
        ["mknod", "open"],
        "what has no other form in its rule"
    );
    assert!(said.contains("left out 2 rules for calls that aarch64 does not have: mknod, open"), "{said}");
}

#[test]
fn arm64_without_ausyscall_is_an_error_and_nothing_is_written() {
    let root = live::temp_dir();
    let bin = root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for program in ["sh", "uname", "dirname"] {
        std::os::unix::fs::symlink(format!("/bin/{program}"), bin.join(program)).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/install-audit-rules");
    let output = command("/bin/sh")
        .env("PATH", &bin)
        .args([script, "--machine", "aarch64", "--no-32bit", "--root"])
        .arg(root.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("ausyscall is missing") && !root.path().join("etc").exists(), "{said}");
}
