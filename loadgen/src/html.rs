//! Pages that show a measurement: one file, nothing from elsewhere. Pure: text out, no I/O.
//!
//! *Promise:* a [`Page`] becomes one HTML document with inline style, script and SVG that opens offline, reads well in
//! light and dark, on a phone and on paper, and without its script loses the values under the pointer only.
//! *Law:* every text given is shown as text, whatever stands in it; knows nothing of runs and reports.
//!
//! To draw a comparison: [`Bars`] for one figure of each program, one [`Chart`] per quantity with one [`Series`] per
//! program, and a [`Table`].

mod bars;
mod chart;
mod page;

pub(crate) use self::bars::{Bar, Bars, Kind};
pub(crate) use self::chart::{Chart, Scale, Series};
pub(crate) use self::page::{Figure, Page, Table, Tone};

/// `text` as it may stand in an element or a quoted attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters are no text; a terminal sequence in a command line must not reach a terminal by way
            // of the page either.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(escape("a<b>&\"c'\u{1b}[m\n"), "a&lt;b&gt;&amp;&quot;c&#39;\u{fffd}[m\n");
    }
}
