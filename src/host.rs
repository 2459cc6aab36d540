//! What this machine is called.
//!
//! Promise: the fully qualified name, without ever waiting long for it. auditd starts before the network
//! and must not be kept waiting by a resolver (laurel's issue 306: 90 s and more).

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use crate::sys;

/// How long the resolver may take, while auditd's records wait in its own queue.
const RESOLVER_WAIT: Duration = Duration::from_millis(200);

/// This host's names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Names {
    /// What messages carry: fully qualified if that could be found out.
    pub full: String,
    /// Everything that `node=` may say for this host.
    pub all: Vec<String>,
}

/// What this machine itself knows of its name.
#[derive(Clone, Debug)]
pub struct Known {
    short: String,
    full: Option<String>,
}

impl Known {
    /// The kernel's host name if it has a dot, else what /etc/hosts says. Starts no thread and asks nobody.
    pub fn find() -> Self {
        let short =
            nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let full = match short.contains('.') {
            true => Some(short.clone()),
            false => from_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default(), &short),
        };
        Self { short, full }
    }

    /// The resolver has to be asked.
    pub fn is_open(&self) -> bool {
        self.full.is_none()
    }

    /// The names; else the resolver's answer, else the short name as it is.
    pub fn names(self) -> Names {
        let Self { short, full } = self;
        let full = full.or_else(|| from_resolver(&short)).unwrap_or_else(|| short.clone());
        let label = full.split('.').next().unwrap_or_default().to_owned();
        Names { all: vec![short, full.clone(), label], full }
    }
}

/// Finds the names, wherever they are to be found.
pub fn names() -> Names {
    Known::find().names()
}

/// The first name with a dot on a line of /etc/hosts that names `short`, as Debian's installer writes it.
pub(crate) fn from_hosts(hosts: &str, short: &str) -> Option<String> {
    hosts.lines().find_map(|line| {
        let mut names = line.split('#').next()?.split_whitespace().skip(1);
        let all: Vec<_> = names.by_ref().collect();
        let full = all.iter().find(|name| name.contains('.') && !name.starts_with("localhost"))?;
        all.contains(&short).then(|| (*full).to_owned())
    })
}

fn from_resolver(short: &str) -> Option<String> {
    let (answer, wait) = mpsc::channel();
    let name = short.to_owned();
    std::thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || answer.send(sys::canonical_name(&name)))
        .ok()?;
    let full = wait.recv_timeout(RESOLVER_WAIT).ok().flatten()?;
    (full.contains('.') && !full.starts_with("localhost")).then_some(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_files() {
        let hosts = "127.0.0.1 localhost localhost.localdomain\n127.0.1.1\tweb-1.example.org web-1 # me\n10.0.0.2 db.example.org db\n";
        assert_eq!(from_hosts(hosts, "web-1").as_deref(), Some("web-1.example.org"));
        assert_eq!(from_hosts(hosts, "db").as_deref(), Some("db.example.org"));
        assert_eq!(from_hosts(hosts, "localhost"), None);
        assert_eq!(from_hosts(hosts, "me"), None);
    }

    #[test]
    fn this_host_has_names() {
        let names = names();
        assert!(!names.full.is_empty() && names.all.contains(&names.full));
    }
}
