//! Which files, ports and sockets a configuration needs while it runs.
//!
//! Law: looks at the configuration and at nothing else; opens no file.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::calls::Sockets;
use crate::config::Config;
use crate::output::service::{Authorities, Target};

/// Files, ports, sockets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Needs {
    /// Files that are read again later. They are replaced by renaming, so it is their folders that matter.
    pub(super) files: BTreeSet<PathBuf>,
    /// Names are looked up.
    pub(super) names: bool,
    /// The system's list of authorities is read.
    pub(super) authorities: bool,
    /// TCP ports that connections go to.
    pub(super) ports: BTreeSet<u16>,
    /// Kinds of sockets that are made.
    pub(super) sockets: Sockets,
}

impl Needs {
    /// What `config` needs, read from `file`; `resolver`: this host's own name has to be looked up; `log`: what the
    /// relay says of itself goes to /dev/log.
    pub(super) fn of(config: &Config, file: Option<&Path>, resolver: bool, log: bool) -> Self {
        let mut needs = Self { names: resolver, ..Self::default() };
        needs.sockets.local = log;
        needs.files.extend(file.map(Path::to_path_buf));
        for destination in &config.destinations {
            for member in destination.route.members() {
                match &member.target {
                    Target::Tcp(host, port)
                    | Target::Tls(host, port)
                    | Target::Relp(host, port)
                    | Target::Relps(host, port) => {
                        needs.ports.insert(*port);
                        needs.sockets.tcp = true;
                        needs.names |= host.parse::<IpAddr>().is_err();
                    }
                    Target::Udp(host, _) => {
                        needs.sockets.udp = true;
                        needs.names |= host.parse::<IpAddr>().is_err();
                    }
                    Target::Unix(_) => needs.sockets.local = true,
                    Target::UnixStream(_) => needs.sockets.local_stream = true,
                    Target::Stdout => {}
                }
            }
            if destination.route.any(Target::is_over_tls) {
                let tls = &destination.service.tls;
                match &tls.ca {
                    Authorities::System => needs.authorities = true,
                    Authorities::File(path) => drop(needs.files.insert(path.clone())),
                }
                needs.files.extend(tls.crls.iter().cloned());
                if let Some((certificate, key)) = &tls.identity {
                    needs.files.extend([certificate.clone(), key.clone()]);
                }
            }
        }
        if needs.names {
            // An answer that does not fit a datagram comes over TCP (RFC 7766).
            needs.ports.insert(53);
            // nscd, sssd and systemd-resolved are asked over a stream.
            let local = needs.sockets.local;
            needs.sockets = Sockets { tcp: true, udp: true, local, local_stream: true, route: true };
        }
        needs
    }

    /// What `other` needs and we do not, in words; `None` if that is nothing. `open` says whether a file lies in a
    /// folder that is open.
    pub(super) fn lacking(&self, other: &Self, open: impl Fn(&Path) -> bool) -> Option<String> {
        if other.names && !self.names {
            return Some("name look-ups".to_owned());
        }
        if let Some(port) = other.ports.difference(&self.ports).next() {
            return Some(format!("TCP port {port}"));
        }
        if let Some(what) = self.sockets.lacking(other.sockets) {
            return Some(what.to_owned());
        }
        if let Some(file) = other.files.iter().find(|file| !open(file)) {
            return Some(format!("the folder of {}", file.display()));
        }
        (other.authorities && !self.authorities).then(|| "the system's list of authorities".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn needs(text: &str) -> Needs {
        let settings: Settings = toml::from_str(text).unwrap();
        Needs::of(&settings.validate().unwrap(), Some(Path::new("/etc/audit-relay.toml")), false, false)
    }

    #[test]
    fn only_what_is_configured_is_needed() {
        let local = needs("hostname = \"h\"\n");
        assert_eq!(
            (local.names, local.authorities, local.ports.len(), local.files.len()),
            (false, false, 0, 1)
        );
        let tls = needs(
            "hostname = \"h\"\nto = [\"tls://[::1]:7000\", \"udp://127.0.0.1\"]\ntls-ca = \"/pki/ca.pem\"\n\
             tls-cert = \"/pki/own.pem\"\ntls-key = \"/keys/own.key\"\n",
        );
        assert_eq!((tls.names, tls.authorities, tls.files.len()), (false, false, 4));
        assert_eq!(tls.ports.iter().copied().collect::<Vec<_>>(), [7000]);
        let named = needs("hostname = \"h\"\nto = [\"relps://logs:20514\"]\n");
        assert_eq!((named.names, named.authorities), (true, true));
        assert_eq!(named.ports.iter().copied().collect::<Vec<_>>(), [53, 20514]);
        let unnamed = Needs::of(&Settings::default().validate().unwrap(), None, true, false);
        assert!(unnamed.names && unnamed.ports.contains(&53), "this host's own");
    }

    #[test]
    fn only_sockets_of_kinds_that_are_configured_are_needed() {
        let none = Sockets::default();
        for (to, expected) in [
            ("stdout:", none),
            ("tcp://127.0.0.1:7000", Sockets { tcp: true, ..none }),
            ("relps://[::1]:7000", Sockets { tcp: true, ..none }),
            ("udp://127.0.0.1", Sockets { udp: true, ..none }),
            ("unix:/dev/log", Sockets { local: true, ..none }),
            ("unix-stream:/run/s", Sockets { local_stream: true, ..none }),
            ("udp://logs", Sockets { local: false, tcp: true, udp: true, local_stream: true, route: true }),
        ] {
            assert_eq!(needs(&format!("hostname = \"h\"\nto = [\"{to}\"]\n")).sockets, expected, "{to}");
        }
        let config = Settings { to: Some(vec!["stdout:".to_owned()]), ..Settings::default() };
        let said = Needs::of(&config.validate().unwrap(), None, false, true);
        assert_eq!(said.sockets, Sockets { local: true, ..none }, "the relay's own words");
    }

    #[test]
    fn what_a_reload_would_lack_is_named() {
        let open = |file: &Path| file.starts_with("/etc");
        let old = needs("hostname = \"h\"\nto = [\"tcp://127.0.0.1:7000\"]\n");
        for (text, expected) in [
            ("facility = \"auth\"\nto = [\"relp://127.0.0.1:7000\"]", None),
            ("to = [\"tcp://127.0.0.1:7000\", \"udp://127.0.0.1:99\"]", Some("UDP")),
            ("to = [\"unix:/dev/log\"]", Some("local datagram sockets")),
            ("to = [\"unix-stream:/run/s\"]", Some("local stream sockets")),
            ("to = [\"tcp://127.0.0.1:7001\"]", Some("TCP port 7001")),
            ("to = [\"tls://127.0.0.1:7000\"]\ntls-ca = \"/srv/ca.pem\"", Some("the folder of /srv/ca.pem")),
            ("to = [\"tls://127.0.0.1:7000\"]", Some("the system's list of authorities")),
            ("to = [\"udp://logs\"]", Some("name look-ups")),
        ] {
            let new = needs(&format!("hostname = \"h\"\n{text}\n"));
            assert_eq!(old.lacking(&new, open).as_deref(), expected, "{text}");
        }
    }
}
