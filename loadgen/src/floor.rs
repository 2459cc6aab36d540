//! The floor: the least a relay can do, to measure against on the same machine in the same minute.
//!
//! *Promise:* reads 1 MiB at a time, splits lines, writes each as RFC 5424 with the event's own time; one write
//! per block read on streams, of up to 64 KiB with TLS, `sendmmsg` of up to 64 on datagram sockets.
//! *Law:* no queue, no retry, no check beyond what finding the time needs. It is a measuring stick, not a relay: a
//! destination that fails ends it.
//!
//! RELP has no floor: without a window and replay there is no RELP, and with them it would be a relay.

mod pump;
mod tls;

use std::io::{self, IoSlice, Write as _};
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;
use std::path::Path;

use memchr::memchr;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, sendmmsg};
use socket2::{Domain, SockAddr, Socket, Type};

pub(crate) use self::pump::pump;
use self::tls::Tls;
use crate::calendar;
use crate::deframe::Framing;

const READ: usize = 1 << 20;
const BATCH: usize = 64;

/// Relays stdin to `to` until its end; with TLS, `ca` is the file with the certificates to trust.
///
/// # Errors
/// Any failure of stdin or of the destination.
pub(crate) fn relay(to: &str, framing: Option<Framing>, ca: Option<&Path>) -> io::Result<()> {
    let (mut output, default_framing) = Output::connect(to, ca)?;
    let framing = framing.or(default_framing);
    let mut header = Header::default();
    let mut input = vec![0; READ];
    let mut filled = 0;
    loop {
        let n = match nix::unistd::read(io::stdin(), &mut input[filled..]) {
            Ok(0) => return output.finish(),
            Ok(n) => n,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        filled += n;
        let mut rest = &input[..filled];
        while let Some(len) = memchr(b'\n', rest) {
            if let Some(header) = header.of(&rest[..len]) {
                output.add(header, &rest[..len], framing);
            }
            rest = &rest[len + 1..];
        }
        let (kept, start) = (rest.len(), filled - rest.len());
        if kept == input.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line longer than the buffer"));
        }
        input.copy_within(start..filled, 0);
        filled = kept;
        output.flush()?;
    }
}

/// The RFC 5424 header, rebuilt where it differs from the previous record's.
#[derive(Default)]
pub(crate) struct Header {
    bytes: Vec<u8>,
    second: u64,
    date: String,
}

impl Header {
    /// The header of a record line; `None` for `EOE` and what is no record.
    pub(crate) fn of(&mut self, line: &[u8]) -> Option<&[u8]> {
        let rest = line.strip_prefix(b"type=")?;
        let (name, rest) = rest.split_at(memchr(b' ', rest)?);
        let rest = rest.strip_prefix(b" msg=audit(")?;
        if name == b"EOE" {
            return None;
        }
        let (second, rest) = number(rest)?;
        let milliseconds = rest.strip_prefix(b".")?.get(..3)?;
        if second != self.second || self.date.is_empty() {
            self.second = second;
            self.date = calendar::date(second);
        }
        self.bytes.clear();
        for part in
            [b"<182>1 ", self.date.as_bytes(), b".", milliseconds, b"Z loadgen auditd - ", name, b" - "]
        {
            self.bytes.extend_from_slice(part);
        }
        Some(&self.bytes)
    }
}

/// The decimal number at the start of `bytes`, and what follows.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take(18).take_while(|b| b.is_ascii_digit()).count();
    let value = bytes[..digits].iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    (digits > 0).then_some((value, &bytes[digits..]))
}

struct Output {
    socket: Socket,
    datagrams: bool,
    tls: Option<Tls>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    headers: MultiHeaders<()>,
}

impl Output {
    /// Connects to a URL in the relay's notation; also says the transport's usual framing.
    fn connect(to: &str, ca: Option<&Path>) -> io::Result<(Self, Option<Framing>)> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidInput, format!("not a destination: {to}"));
        let parse = |address: &str| address.parse::<SocketAddrV4>().map_err(|_| unknown());
        let inet = |address: &str| parse(address).map(SockAddr::from);
        let (domain, kind, address, framing) = if let Some(path) = to.strip_prefix("unix:") {
            (Domain::UNIX, Type::DGRAM, SockAddr::unix(path)?, None)
        } else if let Some(path) = to.strip_prefix("unix-stream:") {
            (Domain::UNIX, Type::STREAM, SockAddr::unix(path)?, Some(Framing::Lf))
        } else if let Some(address) = to.strip_prefix("udp://") {
            (Domain::IPV4, Type::DGRAM, inet(address)?, None)
        } else if let Some(address) = to.strip_prefix("tcp://") {
            (Domain::IPV4, Type::STREAM, inet(address)?, Some(Framing::Octet))
        } else if let Some(address) = to.strip_prefix("tls://") {
            (Domain::IPV4, Type::STREAM, inet(address)?, Some(Framing::Octet))
        } else {
            return Err(unknown());
        };
        let socket = Socket::new(domain, kind, None)?;
        socket.connect(&address)?;
        if domain == Domain::IPV4 && kind == Type::STREAM {
            socket.set_tcp_nodelay(true)?;
        }
        let tls = match to.strip_prefix("tls://") {
            Some(address) => {
                let ca = ca.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "TLS needs --ca"))?;
                Some(Tls::connect(&socket, parse(address)?, ca)?)
            }
            None => None,
        };
        let output = Self {
            socket,
            datagrams: kind == Type::DGRAM,
            tls,
            bytes: Vec::new(),
            ends: Vec::new(),
            headers: MultiHeaders::preallocate(BATCH, None),
        };
        Ok((output, framing))
    }

    /// Appends a message; auditd's 0x1D becomes a space.
    fn add(&mut self, header: &[u8], text: &[u8], framing: Option<Framing>) {
        let framing = framing.filter(|_| !self.datagrams);
        if framing == Some(Framing::Octet) {
            // A Vec takes everything.
            let _ = write!(self.bytes, "{} ", header.len() + text.len());
        }
        self.bytes.extend_from_slice(header);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        if let Some(separator) = memchr(0x1D, text) {
            self.bytes[start + separator] = b' ';
        }
        match framing {
            Some(Framing::Octet) => {}
            Some(Framing::Lf) => self.bytes.push(b'\n'),
            None => self.ends.push(self.bytes.len()),
        }
    }

    /// Sends everything that was added.
    fn flush(&mut self) -> io::Result<()> {
        if self.datagrams {
            self.send_datagrams()?;
        } else {
            let bytes = std::mem::take(&mut self.bytes);
            self.write_all(&bytes)?;
            self.bytes = bytes;
        }
        self.bytes.clear();
        self.ends.clear();
        Ok(())
    }

    /// Sends `bytes` on a stream.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.write_all(bytes, &self.socket),
            None => (&self.socket).write_all(bytes),
        }
    }

    /// Ends the connection as its protocol asks for.
    fn finish(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| tls.finish(&self.socket))
    }

    fn send_datagrams(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.ends.len() {
            let batch = &self.ends[sent..self.ends.len().min(sent + BATCH)];
            let mut start = if sent == 0 { 0 } else { self.ends[sent - 1] };
            let slots: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|index| {
                let end = batch.get(index).copied().unwrap_or(start);
                let message = &self.bytes[start..end];
                start = end;
                [IoSlice::new(message)]
            });
            let nobody = [None::<()>; BATCH];
            let none: [ControlMessage<'_>; 0] = [];
            let fd = self.socket.as_raw_fd();
            match sendmmsg(
                fd,
                &mut self.headers,
                slots[..batch.len()].iter(),
                nobody,
                none,
                MsgFlags::empty(),
            ) {
                Ok(results) => sent += results.count(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_event_time_and_type() {
        let mut header = Header::default();
        let line = b"type=CWD msg=audit(1795424551.650:21): cwd=\"/\"";
        let expected: &[u8] = b"<182>1 2026-11-23T09:02:31.650Z loadgen auditd - CWD - ";
        assert_eq!(header.of(line), Some(expected));
        for other in [&b"type=EOE msg=audit(1795424551.650:21):"[..], b"", b"type=X", b"type=X msg=audit(1.2"]
        {
            assert_eq!(header.of(other), None);
        }
    }
}
