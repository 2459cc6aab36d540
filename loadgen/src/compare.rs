//! The relay, the floors and every peer found on the machine, on the same records, in turn.
//!
//! *Promise:* each contestant has one run in each round, in an order that the seed decides anew for each round, so that
//! what else the machine does falls on all of them; then one table for each receiver.
//! *Law:* decides and adds up, and measures nothing: each run is a `run` of its own process ([`trial`]).
//!
//! ```text
//!  find ──> contestants ──> rounds of trials ──> summary ──> table, JSON, page
//!             ^ peers: scripts and configurations
//! ```

mod find;
mod page;
mod peers;
mod summary;
mod trial;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::json;

use self::find::{Absent, Contestant};
use self::summary::Entry;
use crate::cli::CompareArgs;
use crate::outputs;
use crate::signals::Signals;
use crate::sink::Transport;

/// Makes the comparison, or lists who would take part.
///
/// # Errors
/// If nobody takes part, or the results cannot be written. A contestant's failure is a result.
pub(crate) fn main(args: &CompareArgs) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let own = std::env::current_exe()?;
    let (contestants, absent) = find::contestants(args, &own);
    if args.list {
        io::stdout().write_all(list(&contestants, &absent).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if contestants.is_empty() {
        return Err(format!("nobody takes part\n{}", list(&contestants, &absent)).into());
    }
    outputs::check([args.json.as_deref(), args.html.as_deref()]).map_err(|failure| failure.to_string())?;
    let mut entries: Vec<Entry> =
        contestants.into_iter().map(|contestant| Entry { contestant, runs: Vec::new() }).collect();
    let signals = Signals::catch()?;
    let mut dice = Dice(args.seed);
    let (mut done, all) = (0, entries.len() * args.runs as usize);
    'rounds: for _ in 0..args.runs {
        for index in dice.order(entries.len()) {
            let entry = &mut entries[index];
            let run = trial::run(&entry.contestant, args, &own, &signals);
            if signals.came() {
                // What a signal has cut short says nothing of the contestant.
                break 'rounds;
            }
            done += 1;
            progress(done, all, &entry.contestant, &run);
            entry.runs.push(run);
        }
    }
    let interrupted = signals.exit_code();

    let mut text = conditions(args);
    if interrupted.is_some() {
        writeln!(text, "INTERRUPTED: {done} of {all} runs were made; the figures are those of these")?;
    }
    let told = text.trim_end().replace('\n', ". ");
    let mut receivers: Vec<Transport> = Vec::new();
    for &to in args.to.iter() {
        if !receivers.contains(&to) {
            receivers.push(to);
            let table = summary::table(&entries, to, args.rate > 0);
            write!(text, "\nto {}\n\n{table}", trial::name_of(to))?;
        }
    }
    if !absent.is_empty() {
        write!(text, "\n{}", list(&[], &absent))?;
    }
    // What cannot be written must not take the rest with it: the runs are made.
    let json = args.json.as_ref().map(|path| {
        let all = json!({
            "measured": {
                "version": env!("CARGO_PKG_VERSION"),
                "count": args.count,
                "rate": args.rate,
                "rounds": args.runs,
                "feed": trial::feed_name(args.feed),
                "seed": args.seed,
                "interrupted": interrupted.is_some(),
            },
            "contestants": summary::json(&entries),
            "absent": absent.iter().map(|one| json!({ "name": one.label, "why": one.why })).collect::<Vec<_>>(),
        });
        (path, format!("{all:#}\n"))
    });
    let html = args.html.as_ref().map(|path| {
        let html =
            page::html(&entries, &receivers, &absent, args.rate > 0, &told, crate::session::command_line());
        (path, html)
    });
    let written = [json, html].into_iter().flatten().map(|(path, text)| {
        fs::write(path, text).map_err(|error| format!("writing {}: {error}", path.display()))
    });
    let written: Vec<_> = written.collect();
    io::stdout().write_all(text.as_bytes())?;
    written.into_iter().collect::<Result<(), String>>()?;
    Ok(interrupted.unwrap_or(ExitCode::SUCCESS))
}

/// Tells whoever waits how far it is.
fn progress(done: usize, all: usize, contestant: &Contestant, run: &Result<serde_json::Value, String>) {
    let figure = match run {
        Ok(report) => match &report["target"]["cpu_s_per_million"] {
            serde_json::Value::Null => "took no record".to_owned(),
            cost => format!("{cost} CPU s per million"),
        },
        Err(why) => why.clone(),
    };
    let to = trial::name_of(contestant.to);
    // Nobody watching is no reason to stop.
    let _ = writeln!(io::stderr(), "{done:>4} of {all}: {} to {to}: {figure}", contestant.label);
}

/// Under which conditions, in a line or two.
fn conditions(args: &CompareArgs) -> String {
    let rate =
        if args.rate == 0 { "as fast as possible".to_owned() } else { format!("at {} records/s", args.rate) };
    format!(
        "{} records in each of {} rounds, {rate}, through a {}, seed {}\n\
         CPU seconds per million records written: median, lowest, highest; faults are sums over all rounds\n",
        args.count,
        args.runs,
        trial::feed_name(args.feed),
        args.seed
    )
}

/// Who takes part, and who does not.
fn list(contestants: &[Contestant], absent: &[Absent]) -> String {
    let mut out = String::new();
    for one in contestants {
        out += &format!("{:<8} {:<40} {}\n", trial::name_of(one.to), one.label, one.what);
    }
    for one in absent {
        out += &format!("absent   {:<40} {}\n", one.label, one.why);
    }
    out
}

/// Puts things into an order that only the seed decides (SplitMix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The numbers `0..len`, shuffled.
    fn order(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            let chosen = self.roll() % (last as u64 + 1);
            order.swap(last, usize::try_from(chosen).unwrap_or(0));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_seeds_and_leaves_nobody_out() {
        let orders = |seed| {
            let mut dice = Dice(seed);
            [dice.order(9), dice.order(9), dice.order(9)]
        };
        assert_eq!(orders(1), orders(1));
        assert_ne!(orders(1), orders(2));
        let [first, second, _] = orders(1);
        assert_ne!(first, second);
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..9).collect::<Vec<_>>());
        assert!(Dice(3).order(0).is_empty());
    }
}
