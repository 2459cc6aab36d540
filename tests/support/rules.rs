//! The packaged audit rules, read, and for each rule something that it has to catch.

#![allow(dead_code, reason = "several test programs share this file and each uses its part")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::live;

/// The login of whoever does things in the tests, and an ordinary user's and group's number.
pub(crate) const PERSON: u32 = 5001;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    B64,
    B32,
}

impl Abi {
    fn bits(self) -> &'static str {
        if self == Self::B64 { "64" } else { "32" }
    }

    /// `arch=` in records.
    pub(crate) fn record(self) -> &'static str {
        if self == Self::B64 { " arch=c000003e " } else { " arch=40000003 " }
    }
}

/// A line of a rules file.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) file: String,
    pub(crate) line: String,
}

impl Rule {
    /// The value behind this option or name of a field, such as `-k ` or `dir=`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let start = self.line.find(&format!(" {name}")).map(|at| at + 1).or_else(|| {
            // A field may also be followed by &, >= or !=, which are part of the name here.
            self.line.starts_with(name).then_some(0)
        })?;
        self.line[start + name.len()..].split(' ').next()
    }

    pub(crate) fn key(&self) -> &str {
        self.value("-k ").unwrap_or("")
    }

    pub(crate) fn calls(&self) -> Vec<&str> {
        self.value("-S ").map_or_else(Vec::new, |calls| calls.split(',').collect())
    }

    pub(crate) fn abi(&self) -> Option<Abi> {
        Some(if self.value("arch=")? == "b64" { Abi::B64 } else { Abi::B32 })
    }

    pub(crate) fn is_rule(&self) -> bool {
        self.line.starts_with("-a ") || self.line.starts_with("-A ")
    }

    /// The command that takes it out of the kernel.
    pub(crate) fn removal(&self) -> String {
        format!("-d{}", &self.line[2..])
    }

    fn has(&self, word: &str) -> bool {
        self.line.contains(word)
    }
}

/// Every line that is no comment of every packaged file, in the order of their names.
pub(crate) fn packaged() -> Vec<Rule> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/rules.d"));
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| read(&fs::read_to_string(file).unwrap(), &name_of(file))).collect()
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

pub(crate) fn read(text: &str, file: &str) -> Vec<Rule> {
    let lines = text.lines().filter(|line| line.starts_with('-'));
    lines.map(|line| Rule { file: file.to_owned(), line: line.to_owned() }).collect()
}

/// The numbers of calls, by ABI and name.
#[derive(Debug)]
pub(crate) struct Calls {
    b64: BTreeMap<String, String>,
    b32: BTreeMap<String, String>,
}

impl Calls {
    pub(crate) fn read() -> Self {
        let table = |machine: &str| {
            let output = live::command("ausyscall").args([machine, "--dump"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let pairs = text.lines().filter_map(|line| line.split_once('\t'));
            pairs.map(|(number, name)| (name.to_owned(), number.to_owned())).collect()
        };
        Self { b64: table("x86_64"), b32: table("i386") }
    }

    pub(crate) fn number(&self, abi: Abi, name: &str) -> String {
        let table = if abi == Abi::B64 { &self.b64 } else { &self.b32 };
        if name.bytes().all(|b| b.is_ascii_digit()) {
            return name.to_owned();
        }
        table.get(name).unwrap_or_else(|| panic!("ausyscall does not know {name} ({abi:?})")).clone()
    }

    /// `name argument... , name argument...` with numbers for the names.
    fn numbers(&self, abi: Abi, calls: &str) -> String {
        let mut line = String::new();
        for call in calls.split(" , ") {
            let (name, arguments) = call.split_once(' ').unwrap_or((call, ""));
            let comma = if line.is_empty() { "" } else { " , " };
            write!(line, "{comma}{} {arguments}", self.number(abi, name)).unwrap();
        }
        line
    }

    /// The command line that makes these calls.
    pub(crate) fn command(&self, abi: Abi, calls: &str) -> String {
        format!("/opt/call{} {}", abi.bits(), self.numbers(abi, calls))
    }
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// [`PERSON`], logged in.
    User,
    /// The same, become root.
    Root,
    /// A daemon: root, no login.
    Daemon,
}

/// What is looked for among the records.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// A `SYSCALL` record with this key, of the ABI if one is given.
    Key(String, Option<Abi>),
    /// One for each ABI.
    Both(String),
    /// The same, in which this stands as well.
    KeyAnd(String, &'static str),
    /// None with these words, each of a piece; the first is the type.
    Never(Vec<String>),
}

/// Something that a rule has to catch, or to leave alone.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// Run before, by nobody of interest.
    pub(crate) prepare: String,
    pub(crate) act: String,
    pub(crate) who: Who,
    pub(crate) mark: Mark,
}

/// The probe for a rule; none for rules that other tests are about.
pub(crate) fn probe(rule: &Rule, calls: &Calls) -> Option<Probe> {
    if rule.file == "10-audit-relay.rules" {
        return None;
    }
    if rule.has("always,exclude") || rule.has("never,exit") {
        return Some(never(rule, calls));
    }
    let abi = rule.abi();
    let mut who = if rule.has("uid!=euid") || rule.has("gid!=egid") || rule.has("exit=-E") {
        Who::User
    } else {
        Who::Root
    };
    let of_files = rule.has("dir=") || rule.has("path=");
    if of_files && !rule.has("auid") && !rule.has("perm=x") {
        who = Who::Daemon;
    }
    let (prepare, act) = match (rule.value("path="), rule.value("dir="), rule.value("perm=")) {
        (Some(path), _, Some("x")) => (
            // In place of what is not installed, and of links to programs, which no rule matches.
            format!(
                "mkdir -p $(dirname {path}); [ -f {path} ] && [ ! -h {path} ] || {{ rm -f {path}; cp /bin/true {path}; }}"
            ),
            format!("exec {path} --version"),
        ),
        (Some(path), _, Some(perm)) => (
            format!("mkdir -p $(dirname {path}); [ -e {path} ] || touch {path}; cp -dp {path} {path}.ar"),
            // A link is changed by putting another one in its place.
            format!(
                "if [ -h {path} ]; then exec {}; else exec {}; fi",
                calls.command(Abi::B64, &format!("rename s:{path}.ar s:{path}")),
                calls.command(Abi::B64, &format!("openat -100 s:{path} {}", mode(perm))),
            ),
        ),
        (_, Some(dir), Some("x")) => (
            format!("[ -f {dir}/ar-probe ] || cp /bin/true {dir}/ar-probe"),
            calls.command(abi?, &format!("execve s:{dir}/ar-probe 0 0")),
        ),
        (_, Some(dir), Some(perm)) => {
            let open = |abi| calls.command(abi, &format!("openat -100 s:{dir}/ar-probe {}", mode(perm)));
            (format!("touch {dir}/ar-probe"), format!("{}; {}", open(Abi::B64), open(Abi::B32)))
        }
        _ => by_call(rule, abi?, calls),
    };
    let both = rule.has("dir=") && abi.is_none();
    let key = rule.key().to_owned();
    Some(Probe { prepare, act, who, mark: if both { Mark::Both(key) } else { Mark::Key(key, abi) } })
}

/// How to open a file so that a rule for this kind of access has to match.
fn mode(perm: &str) -> u32 {
    u32::from(!perm.contains('r'))
}

/// For rules that name calls and neither a folder's nor a file's access.
fn by_call(rule: &Rule, abi: Abi, calls: &Calls) -> (String, String) {
    let call = |line: &str| calls.command(abi, line);
    let bits = abi.bits();
    let log = "/var/log/ar-probe";
    let (prepare, act) = match rule.calls()[0] {
        "settimeofday" => (String::new(), call("settimeofday 0 0")),
        // Refused for the bad address, so the time stays.
        "clock_settime" => (String::new(), call(&format!("{} 0 0", rule.calls().last().unwrap()))),
        "adjtimex" => (String::new(), call(&format!("adjtimex b:{}", "00".repeat(208)))),
        "sethostname" => (String::new(), format!("unshare --uts {}", call("sethostname s:probe 5"))),
        "init_module" => (String::new(), call("finit_module -1 s: 0")),
        "mknod" => ("rm -f /opt/node".into(), call("mknod s:/opt/node 0x21b6 0x103")),
        "mknodat" => ("rm -f /opt/node".into(), call("mknodat -100 s:/opt/node 0x21b6 0x103")),
        "mount" => (String::new(), call("umount2 s:/opt/none 0")),
        // In a pid namespace of its own this command is refused; the machine's own is never asked.
        "reboot" => {
            (String::new(), format!("unshare --pid --fork {}", call("reboot 0xfee1dead 0x28121969 0 0")))
        }
        "truncate" => (format!("touch {log}"), call(&format!("truncate s:{log} 0"))),
        "open" if rule.has("a1&0x200") => (format!("touch {log}"), call(&format!("open s:{log} 0x201 0"))),
        "openat2" => (format!("touch {log}"), call(&format!("openat2 -100 s:{log} b:0104 24"))),
        "openat" => (format!("touch {log}"), call(&format!("openat -100 s:{log} 0x201 0"))),
        "unlink" => {
            let kind = if rule.has("filetype=block") { "b" } else { "c" };
            let node = format!("/opt/{kind}{bits}");
            (
                format!("[ -e {node} ] || mknod {node} {kind} 1 99"),
                call(&format!("fchmodat -100 s:{node} 0x180")),
            )
        }
        "execve" if rule.has("uid!=euid") => {
            ("install -m 4755 /opt/call64 /opt/suid".into(), call("execve s:/opt/suid 0 0"))
        }
        "execve" if rule.has("gid!=egid") => {
            ("install -m 2755 /opt/call64 /opt/sgid".into(), call("execve s:/opt/sgid 0 0"))
        }
        "execve" => (String::new(), call("execve s:/bin/true 0 0")),
        "open" if rule.has("exit=-EACCES") => {
            ("install -m 0600 /dev/null /opt/private".into(), call("openat -100 s:/opt/private 0"))
        }
        "open" if rule.has("exit=-EPERM") => {
            ("install -m 0600 /dev/null /opt/private".into(), call("chmod s:/opt/private 0x1ff"))
        }
        other => panic!("no probe for {other}: {}", rule.line),
    };
    (prepare, act)
}

/// For rules that leave something out.
fn never(rule: &Rule, calls: &Calls) -> Probe {
    let words = |words: &[&str]| Mark::Never(words.iter().map(|w| (*w).to_owned()).collect());
    let kind = rule.value("msgtype=");
    let Some(exe) = rule.value("exe=") else {
        if kind == Some("BPF") {
            // A socket filter of two instructions that does nothing.
            let load = "getpid b:b7000000000000009500000000000000 , bpf 5 b:0100000002000000@@00000000 48";
            let act = calls.command(Abi::B64, load);
            return Probe { prepare: String::new(), act, who: Who::Daemon, mark: words(&["BPF"]) };
        }
        // Sent by the test itself.
        let kind = kind.unwrap();
        return Probe { prepare: String::new(), act: String::new(), who: Who::Daemon, mark: words(&[kind]) };
    };
    // The kernel compares the program's inode, so the probe takes its place.
    let abi = rule.abi().unwrap_or(Abi::B32);
    let take_place =
        format!("mkdir -p $(dirname {exe}); cp /opt/call{} {exe}.ar; mv -f {exe}.ar {exe}", abi.bits());
    let (prepare, line) = match rule.value("dir=") {
        Some(dir) => (
            format!("mkdir -p {dir}; touch {dir}/ar-probe; {take_place}"),
            format!("openat -100 s:{dir}/ar-probe 1"),
        ),
        // Just a look, with no mode set.
        None => (take_place, format!("adjtimex b:{}", "00".repeat(208))),
    };
    let act = format!("{exe} {}", calls.numbers(abi, &line));
    let exe = format!("exe=\"{exe}\"");
    Probe { prepare, act, who: Who::Daemon, mark: words(&["SYSCALL", &exe]) }
}

/// Every call that changes a file, on files in /etc: the modern ones that some tables lack as well as the old.
pub(crate) fn changes(calls: &Calls, abi: Abi) -> Vec<Probe> {
    let (file, other) = ("s:/etc/ar-file", "s:/etc/ar-other");
    let xattr = "s:user.ar b:00 1 0";
    let opened = format!("open {file} 0 0");
    let lines = [
        format!("open {file} 1 0"),
        format!("openat -100 {file} 2 0"),
        format!("openat2 -100 {file} b:01 24"),
        format!("creat {file} 0x1a4"),
        format!("truncate {file} 0"),
        format!("rename {file} {other}"),
        format!("renameat -100 {file} -100 {other}"),
        format!("renameat2 -100 {file} -100 {other} 1"),
        format!("link {file} {other}"),
        format!("linkat -100 {file} -100 {other} 0"),
        format!("symlink s:there {other}"),
        format!("symlinkat s:there -100 {other}"),
        format!("unlink {file}"),
        format!("unlinkat -100 {file} 0"),
        format!("mkdir {other} 0x1ed"),
        format!("mkdirat -100 {other} 0x1ed"),
        "rmdir s:/etc/ar-folder".to_owned(),
        format!("mknod {other} 0x11b6 0"),
        format!("mknodat -100 {other} 0x11b6 0"),
        format!("chmod {file} 0x1a4"),
        format!("{opened} , fchmod r 0x1a4"),
        format!("fchmodat -100 {file} 0x1a4"),
        format!("452 -100 {file} 0x1a4 0"),
        format!("chown {file} 0 0"),
        format!("lchown {file} 0 0"),
        format!("{opened} , fchown r 0 0"),
        format!("fchownat -100 {file} 0 0 0"),
        format!("setxattr {file} {xattr}"),
        format!("lsetxattr {file} {xattr}"),
        format!("{opened} , fsetxattr r {xattr}"),
        format!("removexattr {file} s:user.ar"),
        format!("lremovexattr {file} s:user.ar"),
        format!("{opened} , fremovexattr r s:user.ar"),
        // setxattrat and removexattrat of Linux 6.13. Not 469, file_setattr of 6.17: Linux 6.18 does not take it for a change of
        // attributes.
        format!("463 -100 {file} 0 s:user.ar b:00 16"),
        format!("466 -100 {file} 0 s:user.ar"),
    ];
    let prepare = "cd /etc; rm -rf ar-file ar-other ar-folder; echo old >ar-file; mkdir ar-folder";
    lines
        .iter()
        .map(|line| Probe {
            prepare: prepare.to_owned(),
            act: calls.command(abi, line),
            who: Who::Daemon,
            mark: Mark::Key("ar-etc".to_owned(), Some(abi)),
        })
        .collect()
}
