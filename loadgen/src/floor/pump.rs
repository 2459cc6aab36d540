//! The byte pump: what the kernel alone charges for passing bytes on.
//!
//! *Promise:* what stdin brings goes to the destination in blocks of up to 256 KiB, unread.
//! *Law:* no message is known here, so there is no header, no framing and no datagram: lines arrive as they were
//! written (`run --bare` judges such).

use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::Output;

const READ: usize = 256 << 10;

/// Pumps stdin to `to` until its end; with TLS, `ca` is the file with the certificates to trust.
///
/// # Errors
/// Any failure of stdin or of the destination; a destination of datagrams.
pub(crate) fn pump(to: &str, ca: Option<&Path>) -> io::Result<()> {
    let (mut output, _) = Output::connect(to, ca)?;
    if output.datagrams {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a byte pump has no messages to send as datagrams",
        ));
    }
    let mut block = vec![0; READ];
    loop {
        match nix::unistd::read(io::stdin(), &mut block) {
            Ok(0) => return output.finish(),
            Ok(n) => output.write_all(&block[..n])?,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
