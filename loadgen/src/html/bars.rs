//! Horizontal bars with whiskers, as plain elements that a style sheet sizes. Pure: text out, no I/O.
//!
//! *Promise:* lengths are proportional from zero, so that twice as long is twice as much; each bar's figure is written
//! beside it, so that nothing is read from lengths alone.
//! *Law:* every name is escaped; a value that is not finite or is negative has no bar.

use std::fmt::Write as _;

use super::escape;

/// Whose bar it is; told by colour, and by the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What the page is about.
    Own,
    /// A limit to compare with.
    Limit,
    /// Anything else.
    Other,
}

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// Its name; any text.
    pub(crate) name: String,
    /// Its length; nothing if there was none to measure.
    pub(crate) value: Option<f64>,
    /// From where to where the whisker goes.
    pub(crate) spread: Option<(f64, f64)>,
    /// What is written behind it; any text.
    pub(crate) text: String,
    /// Whose it is.
    pub(crate) kind: Kind,
}

/// A chart of bars, drawn in the order given.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    /// The heading; any text.
    pub(crate) title: String,
    /// One sentence below it; any text, may be empty.
    pub(crate) note: String,
    /// The bars.
    pub(crate) bars: Vec<Bar>,
}

impl Bars {
    /// The chart as a `figure` element.
    pub(crate) fn html(&self) -> String {
        let mut out = String::new();
        // A String takes everything.
        let _ = write!(out, "<figure>\n<figcaption><h2>{}</h2>", escape(&self.title));
        if !self.note.is_empty() {
            let _ = write!(out, "<p>{}</p>", escape(&self.note));
        }
        out.push_str("</figcaption>\n<div class=\"bars\">\n");
        let highest = self.bars.iter().flat_map(Bar::ends).fold(0.0, f64::max);
        let share = |value: f64| if highest > 0.0 { 100.0 * value / highest } else { 0.0 };
        for bar in &self.bars {
            let class = match bar.kind {
                Kind::Own => "own",
                Kind::Limit => "limit",
                Kind::Other => "other",
            };
            let _ = write!(
                out,
                "<div class=\"{class}\"><span class=\"name\">{}</span><span class=\"track\" aria-hidden=\"true\">",
                escape(&bar.name)
            );
            if let Some(value) = bar.value.filter(|value| is_length(*value)) {
                let _ = write!(out, "<i style=\"width:{:.2}%\"></i>", share(value));
            }
            if let Some((low, high)) = bar.spread.filter(|(low, high)| is_length(*low) && is_length(*high)) {
                let _ = write!(
                    out,
                    "<b style=\"left:{:.2}%;width:{:.2}%\"></b>",
                    share(low),
                    share((high - low).max(0.0))
                );
            }
            let _ = writeln!(out, "</span><span class=\"value\">{}</span></div>", escape(&bar.text));
        }
        out.push_str("</div>\n</figure>\n");
        out
    }
}

impl Bar {
    /// All lengths of it.
    fn ends(&self) -> impl Iterator<Item = f64> {
        let whisker = self.spread.map(|(_, high)| high);
        self.value.into_iter().chain(whisker).filter(|value| is_length(*value))
    }
}

fn is_length(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: Option<f64>, spread: Option<(f64, f64)>) -> Bar {
        Bar { name: "<b>".into(), value, spread, text: "<i>".into(), kind: Kind::Other }
    }

    fn html(bars: Vec<Bar>) -> String {
        Bars { title: "<s>".into(), note: "<u>".into(), bars }.html()
    }

    #[test]
    fn lengths_are_shares_of_the_highest_whisker() {
        let html = html(vec![bar(Some(1.0), Some((0.5, 2.0))), bar(Some(4.0), Some((4.0, 5.0)))]);
        for length in ["width:20.00%", "left:10.00%;width:30.00%", "width:80.00%", "left:80.00%;width:20.00%"]
        {
            assert!(html.contains(length), "{length} in {html}");
        }
    }

    #[test]
    fn what_was_not_measured_has_no_bar_and_no_text_is_markup() {
        let html =
            html(vec![bar(None, None), bar(Some(f64::NAN), Some((f64::NAN, 1.0))), bar(Some(0.0), None)]);
        assert_eq!(html.matches("<i").count(), 1);
        assert_eq!(html.matches("<b").count() + html.matches("<s>").count() + html.matches("<u>").count(), 0);
    }
}
