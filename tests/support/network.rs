//! A network that loses packets without a word, as a broken path or a peer that is switched off does.
//!
//! Promise: nobody else notices. It is a network namespace with nothing in it but a loopback interface, and goes
//! with the thread that has it and the programs started there.

use std::io::Write as _;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// The network of the calling thread: its sockets, and the programs that it starts.
#[derive(Debug)]
pub(crate) struct Network(());

impl Network {
    /// Runs `test` on a thread with a network of its own. Needs root, ip(8) and nft(8).
    ///
    /// Not on the caller's thread, which may have other tests to run.
    pub(crate) fn own<T: Send>(test: impl FnOnce(&Self) -> T + Send) -> T {
        let inside = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let up = command("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success(), "ip: {up}");
            test(&Self(()))
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// From now on no packet to or from this TCP port arrives, and nobody is told.
    pub(crate) fn lose(&self, port: u16) {
        self.nft(&format!(
            "table inet lossy {{ chain lossy {{ type filter hook input priority 0;\n\
             tcp dport {port} drop\ntcp sport {port} drop\n}}\n}}\n"
        ));
    }

    /// Packets arrive again. Those that were lost do so when TCP sends them once more.
    pub(crate) fn heal(&self) {
        self.nft("delete table inet lossy\n");
    }

    fn nft(&self, rules: &str) {
        let mut nft = command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        let status = nft.wait().unwrap();
        assert!(status.success(), "nft: {status}");
    }
}

/// A caller's own `PATH` may lack the `sbin` folders.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    command
}

/// A name server at `server`: each name is 127.0.0.1, and has no other address.
pub(crate) fn answer_names(server: std::net::UdpSocket) {
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, asker)) = server.recv_from(&mut question) {
            let question = &question[..length];
            let is_a = question.windows(4).any(|window| window == [0, 1, 0, 1]);
            let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut answer = question[..end].to_vec();
            // A response, recursion available, one question, one answer or none, nothing else.
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = server.send_to(&answer, asker);
        }
    });
}
