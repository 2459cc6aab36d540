//! The bar on a terminal while a run lasts.
//!
//! *Promise:* how far the run is, what was sent and has arrived, the rate of the last second, and what is missing.
//! *Law:* nothing unless stderr is a terminal; nothing of it stays there; a terminal that goes away stops no run.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Parts of the bar there are.
const PARTS: u64 = 1000;
/// The rate is that of about a second.
const RATE_NS: u64 = 1_000_000_000;

/// How much of a run there is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Goal {
    /// Records to be written, if that is limited.
    pub(crate) records: Option<u64>,
    /// Time of the whole run, if that is known.
    pub(crate) duration: Option<Duration>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// Nanoseconds since the first record was due.
    pub(crate) elapsed_ns: u64,
    /// Records sent.
    pub(crate) sent: u64,
    /// Records arrived; `None` without a sink.
    pub(crate) arrived: Option<u64>,
    /// Of those not arrived, how many later ones have overtaken: lost, unless they come out of order.
    pub(crate) overtaken: u64,
}

/// A bar, or nothing.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    goal: Goal,
    /// Time and count from which the rate is taken, and those that will be next.
    since: (u64, u64),
    next: (u64, u64),
}

impl Progress {
    /// A bar on stderr, if that is a terminal. `prefix` stands before it.
    pub(crate) fn new(goal: Goal, prefix: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(PARTS), ProgressDrawTarget::stderr());
        // The template is a constant, and a test has read it.
        if let Ok(style) = style() {
            bar.set_style(style);
        }
        bar.set_prefix(prefix.to_owned());
        Self { bar, goal, since: (0, 0), next: (0, 0) }
    }

    /// Whether anybody sees it.
    pub(crate) fn is_visible(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Draws the state.
    pub(crate) fn show(&mut self, state: State) {
        let count = state.arrived.unwrap_or(state.sent);
        if state.elapsed_ns >= self.next.0 + RATE_NS / 2 {
            self.since = self.next;
            self.next = (state.elapsed_ns, count);
        }
        let rate = u128::from(count.saturating_sub(self.since.1)) * 1_000_000_000
            / u128::from(state.elapsed_ns.saturating_sub(self.since.0).max(1));
        self.bar.set_position(self.goal.parts(state).unwrap_or(0));
        self.bar.set_message(text(state, rate, self.goal.duration));
    }

    /// Takes it away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn style() -> Result<ProgressStyle, indicatif::style::TemplateError> {
    ProgressStyle::with_template("{prefix}[{bar:12}] {wide_msg}").map(|style| style.progress_chars("=> "))
}

impl Goal {
    /// How many parts of it are done, whichever limit is nearer; `None` if there is no limit.
    fn parts(self, state: State) -> Option<u64> {
        let share =
            |done: u128, all: u128| u64::try_from(done * u128::from(PARTS) / all.max(1)).unwrap_or(PARTS);
        let by_count = self.records.map(|records| share(state.sent.into(), records.into()));
        let by_time = self.duration.map(|whole| share(state.elapsed_ns.into(), whole.as_nanos()));
        by_count.max(by_time).map(|parts| parts.min(PARTS))
    }
}

/// `12 of 60 s  20,000/s  arrived 239,990 of 240,000 sent  missing 2`: with the bar, within 80 columns.
fn text(state: State, rate: u128, whole: Option<Duration>) -> String {
    use crate::report::thousands;
    let elapsed_s = state.elapsed_ns / 1_000_000_000;
    let mut out = match whole {
        Some(whole) => format!("{elapsed_s} of {} s", whole.as_secs_f64().ceil()),
        None => format!("{elapsed_s} s"),
    };
    out.push_str(&format!("  {}/s  ", thousands(u64::try_from(rate).unwrap_or(u64::MAX))));
    let sent = thousands(state.sent);
    match state.arrived {
        Some(arrived) => out.push_str(&format!("arrived {} of {sent} sent", thousands(arrived))),
        None => out.push_str(&format!("sent {sent}")),
    }
    if state.overtaken > 0 {
        out.push_str(&format!("  missing {}", thousands(state.overtaken)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        assert!(style().is_ok());
    }

    #[test]
    fn a_line_tells_what_has_arrived_and_what_is_missing() {
        let state = State { elapsed_ns: 12_300_000_000, sent: 240_000, arrived: Some(239_990), overtaken: 2 };
        assert_eq!(
            text(state, 20_000, Some(Duration::from_millis(59_500))),
            "12 of 60 s  20,000/s  arrived 239,990 of 240,000 sent  missing 2"
        );
        let state = State { arrived: None, overtaken: 0, ..state };
        assert_eq!(text(state, 7, None), "12 s  7/s  sent 240,000");
    }

    #[test]
    fn the_nearer_limit_counts() {
        let state = State { elapsed_ns: 1_000_000_000, sent: 10, arrived: None, overtaken: 0 };
        let goal =
            |records, seconds: Option<u64>| Goal { records, duration: seconds.map(Duration::from_secs) };
        assert_eq!(goal(Some(40), None).parts(state), Some(250));
        assert_eq!(goal(Some(40), Some(2)).parts(state), Some(500));
        assert_eq!(goal(Some(5), None).parts(state), Some(PARTS));
        assert_eq!(goal(None, None).parts(state), None);
        assert_eq!(goal(Some(0), Some(0)).parts(State::default()), Some(0));
    }

    #[test]
    fn nobody_sees_it_without_a_terminal() {
        // Tests run without one, or with one; in either case it must not fail.
        let mut progress = Progress::new(Goal::default(), "");
        progress.show(State::default());
        progress.clear();
    }
}
