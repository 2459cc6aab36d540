//! The records: what execve, openat and PAM leave behind on a host with `log_format = ENRICHED`.
//!
//! *Promise:* the same seed gives the same records.
//! *Law:* made before the clock starts; nothing here is fast, nor need it be.

use super::stamp::Stamps;
use super::{ENRICHED, mark};

/// A record before it is laid out.
pub(super) struct Record {
    name: &'static str,
    /// The kernel's number of the type.
    pub(super) number: u32,
    body: String,
    suffix: String,
}

/// A record's text line (no LF) and the places in it that change from lap to lap.
pub(super) struct Text {
    /// The line.
    pub(super) bytes: Vec<u8>,
    /// Where its stamp is.
    pub(super) stamp: usize,
    /// Where its mark is; `EOE` has none.
    pub(super) mark: Option<usize>,
}

impl Text {
    /// Lays out a record, with auditd's additions if `enriched`.
    pub(super) fn of(record: &Record, enriched: bool) -> Self {
        let mut bytes = format!("type={} msg=audit(", record.name).into_bytes();
        let stamp = bytes.len();
        bytes.extend_from_slice(Stamps::default().of(0));
        bytes.extend_from_slice(b"):");
        if record.name == "EOE" {
            // The enriched form has no space here, the kernel's own has one.
            if !enriched {
                bytes.push(b' ');
            }
            return Self { bytes, stamp, mark: None };
        }
        bytes.push(b' ');
        bytes.extend_from_slice(record.body.as_bytes());
        let mark = bytes.len();
        bytes.extend_from_slice(mark::BLANK);
        if enriched && !record.suffix.is_empty() {
            bytes.push(ENRICHED);
            bytes.extend_from_slice(record.suffix.as_bytes());
        }
        Self { bytes, stamp, mark: Some(mark) }
    }
}

/// SplitMix64: enough for a mix of records, and the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from[index]
    }
}

/// A login user: uid, name.
const USERS: [(u32, &str); 4] = [(0, "root"), (1000, "anna"), (1001, "deploy"), (33, "www-data")];
/// A program: comm, path, arguments (one with a space: the kernel writes those in hexadecimal).
const PROGRAMS: [(&str, &str, &[&str]); 6] = [
    ("ls", "/usr/bin/ls", &["ls", "-l"]),
    ("id", "/usr/bin/id", &["id"]),
    ("cat", "/usr/bin/cat", &["cat", "/etc/hosts"]),
    ("sh", "/usr/bin/dash", &["sh", "-c", "uname -r"]),
    ("git", "/usr/bin/git", &["git", "status"]),
    ("grep", "/usr/bin/grep", &["grep", "-q", "two words", "a.txt"]),
];
const DIRECTORIES: [&str; 4] = ["/", "/root", "/srv/www", "/var/lib/app"];
const FILES: [&str; 5] = ["/etc/passwd", "/etc/ld.so.cache", "/var/log/app.log", "/tmp/x", "/usr/lib/locale"];

/// The records of one event: execve (a quarter), openat (two thirds), a PAM session (the rest).
pub(super) fn random_event(random: &mut Random, eoe: bool) -> Vec<Record> {
    let mut records = match random.below(24) {
        0..6 => execve(random),
        6..22 => openat(random),
        _ => return vec![pam(random)],
    };
    if eoe {
        records.push(Record { name: "EOE", number: 1320, body: String::new(), suffix: String::new() });
    }
    records
}

/// A user record whose line is exactly `size` bytes long, by what its `msg='...'` holds.
///
/// Small ones leave out fields; below about 120 bytes there is none, and the shortest is given.
pub(super) fn sized(random: &mut Random, size: usize, enriched: bool) -> Record {
    let (uid, user) = random.pick(&USERS);
    let pid = 10_000 + random.below(20_000);
    let session = 1 + random.below(9);
    let suffix = format!("UID=\"root\" AUID=\"{user}\"");
    let full =
        format!("pid={pid} uid=0 auid={uid} ses={session} msg='op=load acct=\"{user}\" res=success data=");
    let short = format!("pid={pid} msg='op=");
    let record = |body, suffix| Record { name: "USER", number: 1005, body, suffix };
    let candidates =
        [record(full.clone(), suffix), record(full, String::new()), record(short, String::new())];
    let [first, second, last] = candidates;
    let fits = |record: &Record| Text::of(record, enriched).bytes.len() < size;
    let mut record = [first, second].into_iter().find(fits).unwrap_or(last);
    // One more for the closing quote.
    let missing = size.saturating_sub(Text::of(&record, enriched).bytes.len() + 1);
    for _ in 0..missing {
        record.body.push(char::from(
            random.pick(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"),
        ));
    }
    record.body.push('\'');
    record
}

fn execve(random: &mut Random) -> Vec<Record> {
    let (comm, exe, args) = random.pick(&PROGRAMS);
    let a0 = format!("{:x}", 0x55d0_c000_0000 + random.below(1 << 28));
    let mut body = format!("argc={}", args.len());
    for (n, arg) in args.iter().enumerate() {
        body.push_str(&format!(" a{n}={}", quoted(arg)));
    }
    vec![
        syscall(random, 59, "execve", &a0, 2, comm, exe, "exec"),
        Record { name: "EXECVE", number: 1309, body, suffix: String::new() },
        cwd(random),
        path(random, 0, exe, "NORMAL", "0100755"),
        path(random, 1, "/lib64/ld-linux-x86-64.so.2", "NORMAL", "0100755"),
        proctitle(args),
    ]
}

fn openat(random: &mut Random) -> Vec<Record> {
    let (comm, exe, args) = random.pick(&PROGRAMS);
    let file = random.pick(&FILES);
    let mut records = vec![syscall(random, 257, "openat", "ffffff9c", 2, comm, exe, "access"), cwd(random)];
    if random.below(2) == 0 {
        // A file that is not there: the kernel knows only its name.
        let body = format!(
            "item=0 name=\"{file}.tmp\" nametype=UNKNOWN cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
        );
        records.push(Record { name: "PATH", number: 1302, body, suffix: String::new() });
    } else {
        let parent = random.pick(&DIRECTORIES);
        records.push(path(random, 0, parent, "PARENT", "040755"));
        records.push(path(random, 1, file, "NORMAL", "0100644"));
    }
    records.push(proctitle(args));
    records
}

#[expect(clippy::too_many_arguments, reason = "one record has that many fields")]
fn syscall(
    random: &mut Random,
    number: u32,
    name: &str,
    a0: &str,
    items: u32,
    comm: &str,
    exe: &str,
    key: &str,
) -> Record {
    let (uid, user) = random.pick(&USERS);
    let pid = 1000 + random.below(30_000);
    let (a1, a2) = (0x7ffd_0000_0000 + random.below(1 << 28), random.below(1 << 20));
    let session = 1 + random.below(9);
    Record {
        name: "SYSCALL",
        number: 1300,
        body: format!(
            "arch=c000003e syscall={number} success=yes exit=0 a0={a0} a1={a1:x} a2={a2:x} a3=0 items={items} \
             ppid={} pid={pid} auid={uid} uid={uid} gid={uid} euid={uid} suid={uid} fsuid={uid} egid={uid} \
             sgid={uid} fsgid={uid} tty=(none) ses={session} comm=\"{comm}\" exe=\"{exe}\" key=\"{key}\"",
            pid - 1
        ),
        suffix: format!(
            "ARCH=x86_64 SYSCALL={name} AUID=\"{user}\" UID=\"{user}\" GID=\"{user}\" EUID=\"{user}\" \
             SUID=\"{user}\" FSUID=\"{user}\" EGID=\"{user}\" SGID=\"{user}\" FSGID=\"{user}\""
        ),
    }
}

fn cwd(random: &mut Random) -> Record {
    let body = format!("cwd=\"{}\"", random.pick(&DIRECTORIES));
    Record { name: "CWD", number: 1307, body, suffix: String::new() }
}

fn path(random: &mut Random, item: u32, name: &str, nametype: &str, mode: &str) -> Record {
    Record {
        name: "PATH",
        number: 1302,
        body: format!(
            "item={item} name=\"{name}\" inode={} dev=fe:00 mode={mode} ouid=0 ogid=0 rdev=00:00 \
             nametype={nametype} cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0",
            1 + random.below(1_000_000)
        ),
        suffix: "OUID=\"root\" OGID=\"root\"".into(),
    }
}

fn proctitle(args: &[&str]) -> Record {
    // One argument is written as it is; the NUL between two makes the kernel write hexadecimal.
    let title = args.join("\0");
    Record {
        name: "PROCTITLE",
        number: 1327,
        body: format!("proctitle={}", quoted(&title)),
        suffix: String::new(),
    }
}

fn pam(random: &mut Random) -> Record {
    const STEPS: [(&str, u32, &str, &str); 6] = [
        ("USER_AUTH", 1100, "PAM:authentication", "pam_unix"),
        ("USER_ACCT", 1101, "PAM:accounting", "pam_permit"),
        ("CRED_ACQ", 1103, "PAM:setcred", "pam_unix"),
        ("USER_START", 1105, "PAM:session_open", "pam_loginuid,pam_env,pam_limits,pam_unix"),
        ("USER_END", 1106, "PAM:session_close", "pam_loginuid,pam_env,pam_limits,pam_unix"),
        ("CRED_DISP", 1104, "PAM:setcred", "pam_unix"),
    ];
    let (name, number, op, grantors) = random.pick(&STEPS);
    let (uid, user) = random.pick(&USERS);
    let pid = 1000 + random.below(30_000);
    let session = 1 + random.below(9);
    Record {
        name,
        number,
        body: format!(
            "pid={pid} uid=0 auid={uid} ses={session} msg='op={op} grantors={grantors} acct=\"{user}\" \
             exe=\"/usr/sbin/cron\" hostname=? addr=? terminal=cron res=success'"
        ),
        suffix: format!("UID=\"root\" AUID=\"{user}\""),
    }
}

/// The kernel's rule for strings it does not trust: quoted if plain, else hexadecimal.
fn quoted(value: &str) -> String {
    if value.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        format!("\"{value}\"")
    } else {
        value.bytes().map(|b| format!("{b:02X}")).collect()
    }
}
