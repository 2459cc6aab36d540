//! Tries the receivers: name, connection, TLS, RELP.
//!
//! It happens in a process of its own that has become the relay's account, since root may reach sockets and read keys that
//! the relay may not, and is refused keys that the relay is given.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use super::Later;
use crate::cli::Options;
use crate::doctor::ask;
use crate::doctor::machine::{LookUp, Trial};
use crate::output::service::{Member, Service, Target};
use crate::site::{Root, Site};
use crate::{output, privilege};

/// Limit for one step of connecting.
const STEP: Duration = Duration::from_secs(3);

/// What the process has to itself before the doctor's time is over, to be read in.
const REST: Duration = Duration::from_millis(700);

/// Has another process try all receivers; in the order of the configuration.
pub(super) fn trials(limit: Duration) -> Result<Vec<Trial>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let arguments = std::env::args_os().skip(1).chain(["--as-relay".into()]);
    let answer = ask::run(&program, arguments, limit).map_err(|error| error.to_string())?;
    serde_json::from_str(&answer.out).map_err(|_| {
        let said = answer.err.trim();
        if said.is_empty() { "the trial said nothing".to_owned() } else { said.to_owned() }
    })
}

/// The other process.
pub(in crate::doctor) fn try_as_relay(options: &Options, within: Duration) -> u8 {
    let end = Instant::now() + within.saturating_sub(REST);
    let root = Root::host();
    // As the doctor itself finds auditd, or the two would speak of different receivers.
    let site = Site::look_with(&root, super::kernel::status().0.map(|kernel| kernel.pid));
    let config = super::relay::read(&root, &site, options);
    // The doctor says what is wrong with it.
    let Ok(config) = config else {
        let _ = writeln!(io::stdout(), "[]");
        return 0;
    };
    let confined =
        privilege::account(config.user.as_deref()).and_then(|account| privilege::confine(&account));
    if let Err(error) = confined {
        let _ = writeln!(io::stderr(), "{error}");
        return 1;
    }
    let begun: Vec<_> = config
        .destinations
        .iter()
        .flat_map(|d| d.route.members().iter().map(|member| (member.clone(), d.service.clone())))
        .map(|(member, service)| Later::begin(move || trial(&member, &service)))
        .collect();
    let late = || Trial { reached: Some(Err("no answer in time".to_owned())), ..Trial::default() };
    let trials: Vec<Trial> = begun.into_iter().map(|trial| trial.get(end).unwrap_or_else(late)).collect();
    let _ = writeln!(io::stdout(), "{}", serde_json::to_string(&trials).unwrap_or_default());
    0
}

fn trial(member: &Member, service: &Service) -> Trial {
    let (host, port) = match &member.target {
        Target::Unix(path) => {
            return local(UnixDatagram::unbound().and_then(|socket| socket.connect(path)));
        }
        Target::UnixStream(path) => return local(UnixStream::connect(path).map(drop)),
        Target::Stdout => return Trial { is_local: true, ..Trial::default() },
        Target::Udp(host, port)
        | Target::Tcp(host, port)
        | Target::Tls(host, port)
        | Target::Relp(host, port)
        | Target::Relps(host, port) => (host, *port),
    };
    let (look_up, addresses) = look_up(host, port);
    let mut trial = Trial {
        look_up: Some(look_up),
        is_local: addresses.first().is_some_and(|address| is_local(address.ip())),
        ..Trial::default()
    };
    if addresses.is_empty() || !member.target.is_over_tcp() {
        return trial;
    }
    if !member.target.is_over_tls() && !member.target.is_relp() {
        trial.reached = Some(reach(&addresses));
        return trial;
    }
    // One connection that is opened and ended in order, so that a receiver has nothing to complain of; only where that
    // fails, another shows whether anybody is there at all.
    match output::probe(member, service, STEP) {
        Ok(facts) => {
            trial.reached = Some(Ok(()));
            trial.opened = Some(Ok(facts.map(|facts| facts.valid)));
        }
        Err(error) => {
            let reached = reach(&addresses);
            trial.opened = reached.is_ok().then(|| Err(error.to_string()));
            trial.reached = Some(reached);
        }
    }
    trial
}

fn local(reached: io::Result<()>) -> Trial {
    let reached = reached.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error} (tried as the relay's account)"),
        _ => error.to_string(),
    });
    Trial { reached: Some(reached), is_local: true, ..Trial::default() }
}

fn look_up(host: &str, port: u16) -> (LookUp, Vec<SocketAddr>) {
    let start = Instant::now();
    let found = (host, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (addresses, error) = match found {
        Ok(addresses) if addresses.is_empty() => (addresses, Some("the name has no address".to_owned())),
        Ok(addresses) => (addresses, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    (LookUp { addresses: addresses.iter().map(SocketAddr::ip).collect(), millis, error }, addresses)
}

fn reach(addresses: &[SocketAddr]) -> Result<(), String> {
    let mut last = String::new();
    for address in addresses {
        match TcpStream::connect_timeout(address, STEP) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// An address that one may bind is the machine's own.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn trials_of_what_is_there_and_what_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let member = |target| Member { url: String::new(), target };
        let tried = |target| trial(&member(target), &Service::default());
        let there = tried(Target::Tcp("127.0.0.1".to_owned(), port));
        assert_eq!((there.reached, there.is_local, there.opened), (Some(Ok(())), true, None));
        // Taken, so that no other test gets the port, and not listening.
        let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        closed.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let port = closed.local_addr().unwrap().as_socket().unwrap().port();
        let gone = tried(Target::Tcp("127.0.0.1".to_owned(), port));
        assert!(gone.reached.unwrap().unwrap_err().contains("refused"));
        let nameless = tried(Target::Tcp("no-such-host.invalid".to_owned(), 601));
        assert!(nameless.look_up.unwrap().error.is_some() && nameless.reached.is_none());
        assert!(tried(Target::Unix("/no/such/socket".into())).reached.unwrap().is_err());
        assert_eq!(tried(Target::Udp("127.0.0.1".to_owned(), 514)).reached, None);
    }

    #[test]
    fn trials_travel_as_json() {
        let trial = Trial {
            look_up: Some(LookUp { addresses: vec![Ipv4Addr::LOCALHOST.into()], millis: 3, error: None }),
            reached: Some(Ok(())),
            opened: Some(Ok(Some((1, 2)))),
            is_local: true,
        };
        for trial in [trial, Trial { opened: Some(Err("x".to_owned())), ..Trial::default() }] {
            let text = serde_json::to_string(&trial).unwrap();
            assert_eq!(serde_json::from_str::<Trial>(&text).unwrap(), trial, "{text}");
        }
    }
}
