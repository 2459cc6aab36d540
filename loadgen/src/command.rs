//! The programs that are run where none is named, and what stands for the receiver in a command.
//!
//! *Promise:* `run`, `floor`, `kernel` and `compare` start the same relay and the same floors, by the same words.
//! *Law:* only words; nothing is started here.

use std::io;
use std::path::{Path, PathBuf};

use crate::deframe::Framing;

/// The relay's name, as that of its executable.
pub(crate) const RELAY: &str = "audit-relay";
/// The subcommands that are floors.
pub(crate) const FLOOR_CHILD: &str = "floor-child";
pub(crate) const PUMP_CHILD: &str = "pump-child";

/// The relay that lies beside this executable.
///
/// # Errors
/// If the operating system does not tell where that is.
pub(crate) fn relay_path() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(RELAY))
}

/// The `relay` without a configuration of its own, sending to the receiver.
pub(crate) fn relay(relay: &Path, encrypted: bool, framing: Option<Framing>) -> Vec<String> {
    let mut command = words(relay, &["--config", "none", "--to", "{to}", "--hostname", "loadgen"]);
    if encrypted {
        command.extend(["--tls-ca", "{ca}"].map(str::to_owned));
    }
    add_framing(&mut command, framing);
    command
}

/// The floor `child` ([`FLOOR_CHILD`] or [`PUMP_CHILD`]) of this executable, `own`.
pub(crate) fn floor(own: &Path, child: &str, encrypted: bool, framing: Option<Framing>) -> Vec<String> {
    let mut command = words(own, &[child, "--to", "{to}"]);
    if encrypted {
        command.extend(["--ca", "{ca}"].map(str::to_owned));
    }
    add_framing(&mut command, framing);
    command
}

fn words(program: &Path, arguments: &[&str]) -> Vec<String> {
    let program = program.to_string_lossy().into_owned();
    std::iter::once(program).chain(arguments.iter().map(|&argument| argument.to_owned())).collect()
}

fn add_framing(command: &mut Vec<String>, framing: Option<Framing>) {
    let name = match framing {
        None => return,
        Some(Framing::Octet) => "octet",
        Some(Framing::Lf) => "lf",
    };
    command.extend(["--framing".to_owned(), name.to_owned()]);
}

/// Where the receiver is, as the program under test sees it; empty what it has not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receiver {
    /// Its URL; `stdout:` without one.
    pub(crate) to: String,
    /// Path of its socket.
    pub(crate) path: String,
    /// Its port.
    pub(crate) port: String,
    /// The certificate to trust.
    pub(crate) ca: String,
}

impl Receiver {
    /// Fills in `{to}`, `{path}`, `{port}` and `{ca}`.
    pub(crate) fn fill(&self, command: &[String]) -> Vec<String> {
        let fill = |word: &String| {
            let word = word.replace("{to}", &self.to).replace("{path}", &self.path);
            word.replace("{port}", &self.port).replace("{ca}", &self.ca)
        };
        command.iter().map(fill).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_filled_in() {
        let receiver =
            Receiver { to: "tls://h:1".into(), path: String::new(), port: "1".into(), ca: "/ca".into() };
        let command = relay(Path::new("/x/audit-relay"), true, Some(Framing::Lf));
        let filled = receiver.fill(&command).join(" ");
        assert_eq!(
            filled,
            "/x/audit-relay --config none --to tls://h:1 --hostname loadgen --tls-ca /ca --framing lf"
        );
        let command = floor(Path::new("/x/y"), PUMP_CHILD, false, None);
        assert_eq!(receiver.fill(&command), ["/x/y", "pump-child", "--to", "tls://h:1"]);
        assert_eq!(receiver.fill(&["{port}:{path}{x}".to_owned()]), ["1:{x}"]);
    }
}
