//! The mix of a real host: what system calls under rules, PAM and user management leave behind, `ENRICHED`.
//!
//! *Promise:* event types in the proportions of a recorded stream, and lines (marks included) as long as its lines: the
//! same median, upper quantiles, mean and maximum. A test holds the lap against the recording.
//! *Law:* events are dealt from a shuffled deck, so that the rare long records are there in every lap in their number.
//!
//! A mark takes 46 bytes. To make room for it, PATH records come without their `cap_*` fields (as on kernels and file
//! systems that have none), and addresses without interpretation; only the shortest tenth of the lines is longer than
//! the recording's.

use super::{FILLING, Random, Record, USERS, quoted};

/// Kinds of events.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Netlink,
    ConfigChange,
    Connect,
    Open,
    Create,
    CreateDeep,
    CreateLong,
    CreateHex,
    Rename,
    Exec,
    ExecLong,
    FdPair,
    Ipc,
    User,
    UserLong,
}

/// How many events of each kind are in a deck: the recording's numbers divided by 4.3.
const CARDS: [(Kind, usize); 16] = [
    (Kind::Plain, 69),
    (Kind::Netlink, 57),
    (Kind::ConfigChange, 8),
    (Kind::Connect, 18),
    (Kind::Open, 72),
    (Kind::Create, 17),
    (Kind::CreateDeep, 8),
    (Kind::CreateLong, 4),
    (Kind::CreateHex, 4),
    (Kind::Rename, 17),
    (Kind::Exec, 32),
    (Kind::ExecLong, 10),
    (Kind::FdPair, 21),
    (Kind::Ipc, 7),
    (Kind::User, 40),
    (Kind::UserLong, 2),
];

/// A shuffled deck of events; a new one is shuffled when it is used up.
#[derive(Default)]
pub(super) struct Deck {
    cards: Vec<Kind>,
    dealt: usize,
}

impl Deck {
    /// The records of the next event, without `EOE`.
    pub(super) fn event(&mut self, random: &mut Random, enriched: bool) -> Vec<Record> {
        if self.cards.is_empty() {
            self.cards = CARDS.iter().flat_map(|&(kind, count)| std::iter::repeat_n(kind, count)).collect();
            self.dealt = 0;
            for last in (1..self.cards.len()).rev() {
                self.cards.swap(last, random.index(last + 1));
            }
        }
        self.dealt += 1;
        let kind = self.cards.pop().unwrap_or(Kind::Plain);
        event(kind, self.dealt, random, enriched)
    }
}

/// A program: comm, path, arguments (a space makes the kernel write one in hexadecimal).
const PROGRAMS: [(&str, &str, &[&str]); 6] = [
    ("ls", "/usr/bin/ls", &["ls", "-l", "/srv/www/static"]),
    ("id", "/usr/bin/id", &["/usr/bin/id", "-u", "www-data"]),
    ("cat", "/usr/bin/cat", &["cat", "/etc/hosts", "/etc/group"]),
    ("sh", "/usr/bin/dash", &["sh", "-c", "exec uname -r -s"]),
    ("git", "/usr/bin/git", &["git", "status", "--short"]),
    ("grep", "/usr/bin/grep", &["grep", "-q", "two words", "a.txt"]),
];
const DIRECTORIES: [&str; 4] = ["/", "/root", "/srv/www", "/var/lib/app"];
const FILES: [&str; 5] =
    ["/etc/passwd", "/etc/ld.so.cache", "/var/log/app.log", "/tmp/x", "/usr/lib/locale/C.utf8"];

fn event(kind: Kind, number: usize, random: &mut Random, enriched: bool) -> Vec<Record> {
    let program = random.pick(&PROGRAMS);
    let call =
        |random: &mut Random, number, name, items, key| syscall(random, number, name, items, program, key);
    let mut records = Vec::new();
    match kind {
        Kind::Plain => records.push(call(random, 90, "chmod", 0, "perm_mod")),
        Kind::Netlink => {
            records.push(call(random, 44, "sendto", 0, "net"));
            records.push(netlink(random));
        }
        Kind::ConfigChange => {
            let body = "auid=4294967295 ses=4294967295 op=add_rule key=\"net\" list=4 res=1";
            records.push(Record::new("CONFIG_CHANGE", 1305, body, ""));
            records.push(call(random, 44, "sendto", 0, "net"));
            records.push(netlink(random));
        }
        Kind::Connect => {
            records.push(call(random, 42, "connect", 1, "net"));
            records.push(local_address());
            records.push(cwd(random));
            records.push(path(random, 0, "/dev/log", "NORMAL", "0140666"));
        }
        Kind::Open => {
            records.push(call(random, 257, "openat", 1, "access"));
            records.push(cwd(random));
            let file = random.pick(&FILES);
            if random.below(2) == 0 {
                // A file that is not there: the kernel knows only its name.
                let body = format!("item=0 name=\"{file}.tmp\" nametype=UNKNOWN");
                records.push(Record::new("PATH", 1302, body, ""));
            } else {
                records.push(path(random, 0, file, "NORMAL", "0100644"));
            }
        }
        Kind::Create | Kind::CreateDeep | Kind::CreateLong | Kind::CreateHex => {
            records.push(call(random, 257, "openat", 2, "access"));
            records.push(cwd(random));
            let (parent, file) = (random.pick(&DIRECTORIES), random.pick(&FILES));
            records.push(path(random, 0, parent, "PARENT", "040755"));
            let file = match kind {
                Kind::CreateDeep => format!("/srv/www/{}", "dir/".repeat(49)),
                Kind::CreateLong => format!("/srv/www/{}", "long/".repeat(81)),
                // The space makes it hexadecimal.
                Kind::CreateHex => format!("/srv/www/a b{}", "c".repeat(282)),
                _ => file.to_owned(),
            };
            records.push(path(random, 1, &file, "CREATE", "0100644"));
        }
        Kind::Rename => {
            let paths = 3 + number % 3;
            records.push(call(random, 264, "renameat", paths, "delete"));
            records.push(cwd(random));
            for item in 0..paths {
                let (name, nametype) = match item {
                    0 | 1 => (random.pick(&DIRECTORIES), "PARENT"),
                    2 => (random.pick(&FILES), "DELETE"),
                    _ => (random.pick(&FILES), "CREATE"),
                };
                records.push(path(random, item, name, nametype, "0100644"));
            }
        }
        Kind::Exec | Kind::ExecLong => {
            records.push(call(random, 59, "execve", 2, "exec"));
            if !number.is_multiple_of(4) {
                let body = "fver=0 fp=0 fi=0 fe=0 old_pp=0 old_pi=0 old_pe=0 old_pa=0 pp=1ffffffffff pi=0 \
                            pe=1ffffffffff pa=0 frootid=0";
                records.push(Record::new("BPRM_FCAPS", 1321, body, ""));
            }
            records.push(execve(random, program.2, matches!(kind, Kind::ExecLong)));
            records.push(cwd(random));
            records.push(path(random, 0, program.1, "NORMAL", "0100755"));
            records.push(path(random, 1, "/lib64/ld-linux-x86-64.so.2", "NORMAL", "0100755"));
        }
        Kind::FdPair => {
            records.push(call(random, 53, "socketpair", 0, "net"));
            records.push(Record::new("FD_PAIR", 1317, "fd0=4 fd1=5", ""));
        }
        Kind::Ipc => {
            records.push(call(random, 31, "shmctl", 0, "ipc"));
            let additions = "OUID=\"root\" OGID=\"root\"";
            records.push(Record::new("IPC", 1303, "ouid=0 ogid=0 mode=0600", additions));
        }
        Kind::User => return vec![pam(random)],
        Kind::UserLong => {
            let size = 8_677 - 9 * random.index(60);
            return vec![super::sized(random, size, enriched)];
        }
    }
    records.push(proctitle(program.2));
    records
}

fn syscall(
    random: &mut Random,
    number: u32,
    name: &str,
    items: usize,
    (comm, exe, _): (&str, &str, &[&str]),
    key: &str,
) -> Record {
    let (uid, user) = random.pick(&USERS);
    let pid = 1000 + random.below(30_000);
    // A pointer in half of them.
    let (a0, a1) = (random.below(256), random.below(2) * (0x7ffd_0000_0000 + random.below(1 << 28)));
    let session = 1 + random.below(9);
    let body = format!(
        "arch=c000003e syscall={number} success=yes exit=0 a0={a0:x} a1={a1:x} a2=0 a3=0 items={items} ppid={} \
         pid={pid} auid={uid} uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses={session} \
         comm=\"{comm}\" exe=\"{exe}\" key=\"{key}\"",
        pid - 1
    );
    let additions = format!(
        "ARCH=x86_64 SYSCALL={name} AUID=\"{user}\" UID=\"root\" GID=\"root\" EUID=\"root\" SUID=\"root\" \
         FSUID=\"root\" EGID=\"root\" SGID=\"root\" FSGID=\"root\""
    );
    Record::new("SYSCALL", 1300, body, additions)
}

fn execve(random: &mut Random, args: &[&str], long: bool) -> Record {
    let mut body = format!("argc={}", args.len() + usize::from(long));
    for (n, arg) in args.iter().enumerate() {
        body.push_str(&format!(" a{n}={}", quoted(arg)));
    }
    if long {
        // The kernel splits what is longer than 7,500 bytes over several records; this is one of them.
        body.push_str(&format!(" a{}=\"", args.len()));
        let missing = 7_424 + random.index(8) - body.len();
        body.extend((0..missing).map(|_| char::from(random.pick(FILLING))));
        body.push('"');
    }
    Record::new("EXECVE", 1309, body, "")
}

fn netlink(random: &mut Random) -> Record {
    let body = format!("saddr=1000{:04X}0000000000000000", random.below(1 << 16));
    Record::new("SOCKADDR", 1306, body, "")
}

/// `connect` to /dev/log with all of `sun_path`.
fn local_address() -> Record {
    let body = format!("saddr=0100{}{}", "2F6465762F6C6F67", "00".repeat(76));
    Record::new("SOCKADDR", 1306, body, "SADDR={ saddr_fam=local path=/dev/log }")
}

fn cwd(random: &mut Random) -> Record {
    Record::new("CWD", 1307, format!("cwd=\"{}\"", random.pick(&DIRECTORIES)), "")
}

fn path(random: &mut Random, item: usize, name: &str, nametype: &str, mode: &str) -> Record {
    let body = format!(
        "item={item} name={} inode={} dev=fe:00 mode={mode} ouid=0 ogid=0 rdev=00:00 nametype={nametype}",
        quoted(name),
        1 + random.below(1_000_000)
    );
    Record::new("PATH", 1302, body, "OUID=\"root\" OGID=\"root\"")
}

fn proctitle(args: &[&str]) -> Record {
    // The NUL between two arguments makes the kernel write hexadecimal.
    Record::new("PROCTITLE", 1327, format!("proctitle={}", quoted(&args.join("\0"))), "")
}

fn pam(random: &mut Random) -> Record {
    const STEPS: [(&str, u32, &str); 6] = [
        ("USER_AUTH", 1100, "PAM:authentication grantors=pam_unix"),
        ("USER_ACCT", 1101, "PAM:accounting grantors=pam_permit"),
        ("CRED_ACQ", 1103, "PAM:setcred grantors=pam_unix"),
        ("USER_START", 1105, "PAM:session_open grantors=pam_loginuid,pam_limits,pam_unix"),
        ("USER_END", 1106, "PAM:session_close grantors=pam_loginuid,pam_limits,pam_unix"),
        ("CRED_DISP", 1104, "PAM:setcred grantors=pam_unix"),
    ];
    let (name, number, op) = random.pick(&STEPS);
    let (uid, user) = random.pick(&USERS);
    let pid = 1000 + random.below(30_000);
    let session = 1 + random.below(9);
    let body = format!(
        "pid={pid} uid=0 auid={uid} ses={session} msg='op={op} acct=\"{user}\" exe=\"/usr/sbin/cron\" hostname=? \
         addr=? terminal=cron res=success'"
    );
    Record::new(name, number, body, format!("UID=\"root\" AUID=\"{user}\""))
}
