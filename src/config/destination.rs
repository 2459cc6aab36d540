//! One destination, from what the user wrote to what an output runs with.

use std::sync::Arc;
use std::time::Duration;

use super::settings::DestinationSettings;
use super::{Destination, ON_FULL, one_of, units, url};
use crate::certificate::{Fingerprint, is_name};
use crate::output::service::{Authorities, Member, Replay, Route, Service, Target, TlsSettings, Verify};
use crate::syslog::{Format, Framing, Shape};

const MIN_QUEUE: usize = 256 * 1024;

const MAX_QUEUE: usize = 16 << 30;

/// Default where what does not fit is lost.
const DEEP_QUEUE: usize = 64 << 20;

/// Default where the input can wait instead: a deeper one would always be full, and every byte of it cost the
/// kernel's work of giving fresh memory.
const SHALLOW_QUEUE: usize = 8 << 20;

impl Destination {
    /// Bytes that may wait for it: what `queue-size` says, else 64 MiB; or 8 MiB, and no less than twice `replay`,
    /// if `input_waits`, that is, if a full queue holds up the reading of a file or a pipe.
    pub fn queue_bytes(&self, input_waits: bool) -> usize {
        let replay = match self.service.replay {
            Replay::Unacknowledged { margin } => 2 * margin,
            Replay::Off => 0,
        };
        let default = if input_waits { SHALLOW_QUEUE.max(replay) } else { DEEP_QUEUE };
        self.queue_size.unwrap_or(default)
    }
}

/// The most that fits an IPv4 datagram: 65,535 less 20 of IP and 8 of UDP header.
const UDP_MAX: usize = 65_507;

/// Longest time that can be set otherwise.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Linux takes no TCP_KEEPIDLE of more than 32,767 s.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(540 * 60);

/// librelp's default; more than this at a time no receiver has use for.
const MAX_WINDOW: usize = 65_536;

pub(super) const VERIFY: [(&str, Verify); 4] =
    [("ca", Verify::Ca), ("pin", Verify::Pin), ("pin-and-ca", Verify::PinAndCa), ("none", Verify::None)];

/// Understands `own`, which [`DestinationSettings::filled_from`] has filled.
pub(super) fn destination(own: &DestinationSettings) -> Result<Destination, String> {
    let (name, route) = route(own)?;
    let (local, tcp) = (
        route.any(|target| matches!(target, Target::Unix(_) | Target::UnixStream(_))),
        route.any(|target| matches!(target, Target::Tcp(..) | Target::Tls(..))),
    );
    let formats = [("auto", None), ("rfc5424", Some(Format::Rfc5424)), ("rfc3164", Some(Format::Rfc3164))];
    let usual = if local { Format::Rfc3164 } else { Format::Rfc5424 };
    let format = one_of("format", own.format.as_deref(), &formats)?.flatten().unwrap_or(usual);
    let framing =
        one_of("framing", own.framing.as_deref(), &[("octet", Framing::Octet), ("lf", Framing::Lf)])?;
    let framed = |target: &Target| matches!(target, Target::Unix(_) | Target::Udp(..)) || target.is_relp();
    let framing = match framing {
        _ if route.any(framed) => Framing::Datagram,
        Some(framing) => framing,
        None if tcp => Framing::Octet,
        None => Framing::Lf,
    };
    let size = |key: &str, text: Option<&String>| match text {
        Some(text) => units::size(text).map(Some).map_err(|error| format!("{key}: {error}")),
        None => Ok(None),
    };
    let said = own.queue_size.as_ref().filter(|text| *text != "auto");
    let queue_size = size("queue-size", said)?;
    if queue_size.is_some_and(|size| size > MAX_QUEUE) {
        return Err(format!("queue-size: at most {}", units::show_size(MAX_QUEUE)));
    }
    if let Some(small) = queue_size.filter(|size| *size < MIN_QUEUE) {
        return Err(format!(
            "queue-size: {} is too small; at least {} lets one read of the input pass",
            units::show_size(small),
            units::show_size(MIN_QUEUE)
        ));
    }
    let max = size("max-message-size", own.max_message_size.as_ref())?;
    if max.is_some_and(|max| max < Shape::MIN_SIZE) {
        return Err(format!(
            "max-message-size: at least {} bytes, which every receiver must take (RFC 5424 section 6.1)",
            Shape::MIN_SIZE
        ));
    }
    let max_message_size = match route.any(|target| matches!(target, Target::Udp(..))) {
        true => Some(max.unwrap_or(UDP_MAX).min(UDP_MAX)),
        false => max,
    };
    let on_full = one_of("on-full", own.on_full.as_deref(), &ON_FULL)?;
    let service = service(own, &route, queue_size.unwrap_or(DEEP_QUEUE))?;
    Ok(Destination {
        url: name,
        route,
        format,
        framing,
        on_full: on_full.flatten(),
        queue_size,
        max_message_size,
        service,
    })
}

/// The receivers, and what the destination is called.
fn route(own: &DestinationSettings) -> Result<(String, Route), String> {
    match (&own.url, &own.failover, &own.balance) {
        (Some(url), None, None) => {
            let member = Member { url: url.clone(), target: url::parse(url)? };
            Ok((url.clone(), Route::Failover(vec![member])))
        }
        (None, Some(urls), None) => {
            Ok((format!("failover:{}", urls.join(",")), Route::Failover(group("failover", urls)?)))
        }
        (None, None, Some(urls)) => {
            Ok((format!("balance:{}", urls.join(",")), Route::Balance(group("balance", urls)?)))
        }
        _ => Err("destination: name its receivers by one of `url`, `failover` and `balance`".to_owned()),
    }
}

fn group(key: &str, urls: &[String]) -> Result<Vec<Member>, String> {
    if urls.len() < 2 {
        return Err(format!("{key}: name at least two receivers; for one there is `to`"));
    }
    let mut members = Vec::new();
    for url in urls {
        let target = url::parse(url)?;
        if !target.is_over_tcp() {
            return Err(format!(
                "{key}: `{url}` cannot tell when its receiver is gone; a group is made of tcp, tls, relp and relps"
            ));
        }
        members.push(Member { url: url.clone(), target });
    }
    let relp = members[0].target.is_relp();
    if let Some(other) = members.iter().find(|member| member.target.is_relp() != relp) {
        return Err(format!(
            "{key}: `{}` and `{}` differ in their framing; a group is made of tcp and tls, or of relp and relps",
            members[0].url, other.url
        ));
    }
    for (at, member) in members.iter().enumerate() {
        if members[..at].iter().any(|other| other.target == member.target) {
            return Err(format!("{key}: `{}` is named twice", member.url));
        }
    }
    Ok(members)
}

fn service(own: &DestinationSettings, route: &Route, queue_size: usize) -> Result<Service, String> {
    let default = Service::default();
    // What the transport has no use for stays at its default, so that equal services are equal.
    let (tcp, relp) = (route.any(Target::is_over_tcp), route.any(Target::is_relp));
    let replay = match own.replay.as_deref() {
        _ if relp => default.replay,
        None => default.replay,
        Some("off") => Replay::Off,
        Some("unacked") => Replay::Unacknowledged { margin: 0 },
        Some(text) => match units::size(text) {
            Ok(margin) if margin <= queue_size / 2 => Replay::Unacknowledged { margin },
            Ok(_) => {
                return Err(format!(
                    "replay: {text} is more than half of queue-size ({}), which holds it; raise queue-size",
                    units::show_size(queue_size)
                ));
            }
            Err(_) => {
                return Err(format!(
                    "replay: `{text}` is unknown; choose among unacked, off, or a size such as 8MiB"
                ));
            }
        },
    };
    let time = |key: &str, text: Option<&String>, default: Duration, longest: Duration| match text {
        None => Ok(default),
        Some(text) => match units::duration(text) {
            Ok(time) if time >= Duration::from_secs(1) && time <= longest => {
                Ok(if tcp { time } else { default })
            }
            Ok(_) => {
                Err(format!("{key}: `{text}` is out of range; from 1s to {}min", longest.as_secs() / 60))
            }
            Err(error) => Err(format!("{key}: {error}")),
        },
    };
    let relp_window = own.relp_window.unwrap_or(default.relp_window);
    if !(2..=MAX_WINDOW).contains(&relp_window) {
        return Err(format!("relp-window: {relp_window} is out of range; from 2 to {MAX_WINDOW} messages"));
    }
    Ok(Service {
        replay: if tcp { replay } else { default.replay },
        connect_timeout: time(
            "connect-timeout",
            own.connect_timeout.as_ref(),
            default.connect_timeout,
            LONGEST,
        )?,
        tcp_user_timeout: time(
            "tcp-user-timeout",
            own.tcp_user_timeout.as_ref(),
            default.tcp_user_timeout,
            LONGEST,
        )?,
        tcp_keepalive: time(
            "tcp-keepalive",
            own.tcp_keepalive.as_ref(),
            default.tcp_keepalive,
            LONGEST_KEEPALIVE,
        )?,
        relp_window: if relp { relp_window } else { default.relp_window },
        tls: match route.any(Target::is_over_tls) {
            true => Arc::new(tls(own, route)?),
            false => Arc::default(),
        },
    })
}

fn tls(own: &DestinationSettings, route: &Route) -> Result<TlsSettings, String> {
    if let Some(name) = own.tls_name.as_deref().filter(|name| !is_name(name)) {
        return Err(format!(
            "tls-name: `{name}` is neither a DNS name nor an IP address (without brackets), so no certificate holds it"
        ));
    }
    for member in route.members().iter().filter(|_| own.tls_name.is_none()) {
        if let Target::Tls(host, _) | Target::Relps(host, _) = &member.target
            && !is_name(host)
        {
            return Err(format!(
                "destination `{}`: no certificate can hold `{host}`; set tls-name to what the receiver's holds",
                member.url
            ));
        }
    }
    let pins = own.tls_pin.iter().flatten();
    let pins: Vec<_> = pins
        .map(|text| Fingerprint::read(text).map_err(|error| format!("tls-pin: {error}")))
        .collect::<Result<_, _>>()?;
    // A pin that is named means to be heeded, and so does an authority beside it.
    let usual = match (pins.is_empty(), &own.tls_ca) {
        (true, _) => Verify::Ca,
        (false, None) => Verify::Pin,
        (false, Some(_)) => Verify::PinAndCa,
    };
    let verify = one_of("tls-verify", own.tls_verify.as_deref(), &VERIFY)?.unwrap_or(usual);
    let pinned = matches!(verify, Verify::Pin | Verify::PinAndCa);
    if pinned && pins.is_empty() {
        return Err("tls-verify: `pin` needs the receiver's fingerprint in tls-pin".to_owned());
    }
    if !pinned && !pins.is_empty() {
        return Err(
            "tls-pin: tls-verify says that no pin is looked at; say `pin` or `pin-and-ca` there".to_owned()
        );
    }
    let asks_ca = matches!(verify, Verify::Ca | Verify::PinAndCa);
    if !asks_ca && (own.tls_ca.is_some() || own.tls_crl.as_ref().is_some_and(|lists| !lists.is_empty())) {
        return Err(
            "tls-verify: tls-ca and tls-crl are not looked at in this mode; say `ca` or `pin-and-ca`, or take them out"
                .to_owned(),
        );
    }
    let ca = match &own.tls_ca {
        Some(path) if path.as_os_str() != "system" => Authorities::File(path.clone()),
        _ => Authorities::System,
    };
    let identity = match (&own.tls_cert, &own.tls_key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        (Some(_), None) => return Err("tls-cert: needs its private key in tls-key".to_owned()),
        (None, Some(_)) => return Err("tls-key: needs its certificate in tls-cert".to_owned()),
    };
    Ok(TlsSettings {
        verify,
        ca,
        pins,
        name: own.tls_name.clone(),
        identity,
        crls: own.tls_crl.clone().unwrap_or_default(),
    })
}

/// The destination in the file's own form, every default written out that its transport has use for.
pub(super) fn show(d: &Destination) -> DestinationSettings {
    let urls: Vec<_> = d.route.members().iter().map(|member| member.url.clone()).collect();
    let mut shown = DestinationSettings {
        format: Some(if d.format == Format::Rfc5424 { "rfc5424" } else { "rfc3164" }.to_owned()),
        framing: match d.framing {
            Framing::Datagram => None,
            Framing::Octet => Some("octet".to_owned()),
            Framing::Lf => Some("lf".to_owned()),
        },
        on_full: Some(super::name_of(&d.on_full, &ON_FULL)),
        queue_size: Some(d.queue_size.map_or_else(|| "auto".to_owned(), units::show_size)),
        max_message_size: d.max_message_size.map(units::show_size),
        ..DestinationSettings::default()
    };
    match &d.route {
        Route::Failover(members) if members.len() == 1 => shown.url = urls.into_iter().next(),
        Route::Failover(_) => shown.failover = Some(urls),
        Route::Balance(_) => shown.balance = Some(urls),
    }
    let service = &d.service;
    if d.route.any(Target::is_over_tcp) {
        shown.connect_timeout = Some(units::show_duration(service.connect_timeout));
        shown.tcp_user_timeout = Some(units::show_duration(service.tcp_user_timeout));
        shown.tcp_keepalive = Some(units::show_duration(service.tcp_keepalive));
    }
    if d.route.any(Target::is_relp) {
        shown.relp_window = Some(service.relp_window);
    } else if d.route.any(Target::is_over_tcp) {
        shown.replay = Some(match service.replay {
            Replay::Off => "off".to_owned(),
            Replay::Unacknowledged { margin: 0 } => "unacked".to_owned(),
            Replay::Unacknowledged { margin } => units::show_size(margin),
        });
    }
    if d.route.any(Target::is_over_tls) {
        let tls = &service.tls;
        shown.tls_verify = Some(super::name_of(&tls.verify, &VERIFY));
        if matches!(tls.verify, Verify::Ca | Verify::PinAndCa) {
            shown.tls_ca = Some(match &tls.ca {
                Authorities::System => "system".into(),
                Authorities::File(path) => path.clone(),
            });
        }
        let listed = |empty: bool| (!empty).then_some(());
        shown.tls_pin =
            listed(tls.pins.is_empty()).map(|()| tls.pins.iter().map(ToString::to_string).collect());
        shown.tls_crl = listed(tls.crls.is_empty()).map(|()| tls.crls.clone());
        shown.tls_name = tls.name.clone();
        if let Some((certificate, key)) = tls.identity.clone() {
            (shown.tls_cert, shown.tls_key) = (Some(certificate), Some(key));
        }
    }
    shown
}
