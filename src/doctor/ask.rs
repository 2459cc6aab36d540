//! Runs one of the system's programs, or this one, for what it prints.
//!
//! Promise: an answer or an error within the time, and no more output than asked for. Law: found by absolute path, with an
//! empty environment and no input; what takes too long is ended by its own id.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{io, thread};

/// Where the system's programs are; whoever calls us may have no PATH.
const FOLDERS: [&str; 4] = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];

/// The most that is read of a program's output.
const MOST: u64 = 1 << 20;

/// What a program has said.
#[derive(Debug)]
pub(super) struct Answer {
    /// Exit status; `None`: ended by a signal.
    pub(super) status: Option<i32>,
    /// Standard output.
    pub(super) out: String,
    /// Standard error.
    pub(super) err: String,
}

/// Finds a program of the system.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| PathBuf::from(folder).join(name)).find(|path| path.is_file())
}

/// Runs it.
///
/// # Errors
/// It cannot be started, or takes longer than `limit`.
pub(super) fn run<A: AsRef<OsStr>>(
    program: &std::path::Path,
    arguments: impl IntoIterator<Item = A>,
    limit: Duration,
) -> io::Result<Answer> {
    let end = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (out, err) = (read(child.stdout.take())?, read(child.stderr.take())?);
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("took more than {} s", limit.as_secs_f32()));
    let texts =
        [&out, &err].map(|text| text.recv_timeout(end.saturating_duration_since(Instant::now())).ok());
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() >= end => break None,
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    match (status, texts) {
        (Some(status), [Some(out), Some(err)]) => Ok(Answer { status: status.code(), out, err }),
        (status, _) => {
            if status.is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
            Err(late())
        }
    }
}

/// Reads to the end, or to [`MOST`], on a thread: a program may fill one pipe while the other is waited for.
fn read(from: Option<impl io::Read + Send + 'static>) -> io::Result<mpsc::Receiver<String>> {
    let (answer, wait) = mpsc::channel();
    let work = move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.by_ref().take(MOST).read_to_end(&mut bytes);
            // What is more goes nowhere, and must not hold it up.
            let _ = io::copy(&mut from, &mut io::sink());
        }
        let _ = answer.send(String::from_utf8_lossy(&bytes).into_owned());
    };
    thread::Builder::new().name("answer".to_owned()).spawn(work)?;
    Ok(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded() {
        let shell = find("sh").unwrap();
        let said = |script: &str, limit| run(&shell, ["-c", script], Duration::from_millis(limit));
        let answer = said("echo out; echo err >&2; echo \"[$HOME]\"; exit 3", 5000).unwrap();
        assert_eq!(
            (answer.status, answer.out.as_str(), answer.err.as_str()),
            (Some(3), "out\n[]\n", "err\n")
        );
        let long = said("head -c 3000000 /dev/zero", 10_000).unwrap();
        assert_eq!(long.out.len() as u64, MOST);
        let start = Instant::now();
        assert_eq!(said("exec sleep 60", 200).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // A grandchild that keeps the pipe does not keep us.
        assert_eq!(said("sleep 3 & exit 0", 200).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(2));
        assert!(run(std::path::Path::new("/no/such/program"), ["x"], Duration::from_secs(1)).is_err());
    }
}
