//! The page around the charts: headline, verdict, key figures, tables, style and script.
//!
//! *Promise:* the same order on every page: what was measured, how it ended, the figures that matter, the charts, the
//! rest in tables.
//! *Law:* all style and script is the page's own; a content security policy in it forbids everything from elsewhere.

use std::fmt::Write as _;

use super::bars::Bars;
use super::chart::{Chart, STYLES};
use super::escape;

/// How a verdict or figure is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// To be read with care: the measurement itself is in doubt.
    Doubt,
    /// A fault of what was measured.
    Bad,
}

/// A key figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What it is.
    pub(crate) name: String,
    /// The number.
    pub(crate) value: String,
    /// Its unit, or a remark; may be empty.
    pub(crate) unit: String,
}

/// A table; the first cell of each row is its name.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The heading.
    pub(crate) title: String,
    /// The heads of the columns; none leaves the line out.
    pub(crate) head: Vec<String>,
    /// The rows, as long as the head.
    pub(crate) rows: Vec<Vec<String>>,
    /// Whether cells after the first are numbers, set to the right.
    pub(crate) numbers: bool,
}

/// A whole page. All text is text: nothing in it is taken for markup.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// What was measured; also the title of the window.
    pub(crate) title: String,
    /// How, in a line.
    pub(crate) subtitle: String,
    /// What came of it: one sentence each.
    pub(crate) verdicts: Vec<(Tone, String)>,
    /// The figures that matter, most important first.
    pub(crate) figures: Vec<Figure>,
    /// Figures side by side.
    pub(crate) bars: Vec<Bars>,
    /// The charts.
    pub(crate) charts: Vec<Chart>,
    /// Everything else.
    pub(crate) tables: Vec<Table>,
    /// The command line that measures it again, ready for a shell.
    pub(crate) command: String,
}

impl Page {
    /// The document.
    pub(crate) fn html(&self) -> String {
        let mut out = String::with_capacity(64 << 10);
        // A String takes everything.
        let _ = write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'; img-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
             <title>{}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n",
            escape(&self.title),
            line_styles()
        );
        let _ = write!(
            out,
            "<header>\n<h1>{}</h1>\n<p>{}</p>\n</header>\n",
            escape(&self.title),
            escape(&self.subtitle)
        );
        for (tone, text) in &self.verdicts {
            let (class, sign) = match tone {
                Tone::Good => ("good", "✓"),
                Tone::Doubt => ("doubt", "!"),
                Tone::Bad => ("bad", "✗"),
            };
            let _ = writeln!(
                out,
                "<p class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span>{}</p>",
                escape(text)
            );
        }
        if !self.figures.is_empty() {
            out.push_str("<dl class=\"figures\">\n");
            for Figure { name, value, unit } in &self.figures {
                let _ = writeln!(
                    out,
                    "<div><dt>{}</dt><dd>{} <small>{}</small></dd></div>",
                    escape(name),
                    escape(value),
                    escape(unit)
                );
            }
            out.push_str("</dl>\n");
        }
        for bars in &self.bars {
            out.push_str(&bars.html());
        }
        for chart in &self.charts {
            out.push_str(&chart.html());
        }
        for table in &self.tables {
            table.html(&mut out);
        }
        if !self.command.is_empty() {
            let _ = write!(
                out,
                "<section>\n<h2>Command</h2>\n<pre><code>{}</code></pre>\n</section>\n",
                escape(&self.command)
            );
        }
        let _ = write!(
            out,
            "<footer>Made by audit-loadgen {}.</footer>\n</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        );
        out
    }
}

impl Table {
    fn html(&self, out: &mut String) {
        let class = if self.numbers { " class=\"numbers\"" } else { "" };
        let _ = write!(
            out,
            "<section>\n<h2>{}</h2>\n<div class=\"scroll\"><table{class}>\n",
            escape(&self.title)
        );
        if !self.head.is_empty() {
            out.push_str("<thead><tr>");
            for cell in &self.head {
                let _ = write!(out, "<th scope=\"col\">{}</th>", escape(cell));
            }
            out.push_str("</tr></thead>\n");
        }
        out.push_str("<tbody>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let _ = if index == 0 {
                    write!(out, "<th scope=\"row\">{}</th>", escape(cell))
                } else {
                    write!(out, "<td>{}</td>", escape(cell))
                };
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table></div>\n</section>\n");
    }
}

/// Colours for light and dark ground (Okabe and Ito's set, those too pale or too dark for the ground shaded) and dashes.
const LINES: [(&str, &str, &str); STYLES] = [
    ("#0072b2", "#56b4e9", "none"),
    ("#d55e00", "#ff9153", "7 4"),
    ("#009e73", "#2fd0a4", "2 4"),
    ("#aa4488", "#e69ac8", "10 3 2 3"),
    ("#b07d00", "#f0c040", "none"),
    ("#3a9bd4", "#9cd3f5", "7 4"),
    ("#444444", "#dddddd", "2 4"),
    ("#8c564b", "#d8a79c", "10 3 2 3"),
];

fn line_styles() -> String {
    let mut out = String::new();
    let colours = |out: &mut String, dark: bool| {
        for (index, (light, night, _)) in LINES.iter().enumerate() {
            let _ = write!(out, "--s{index}:{};", if dark { night } else { light });
        }
    };
    out.push_str(":root{");
    colours(&mut out, false);
    out.push_str("}\n@media screen and (prefers-color-scheme:dark){:root{");
    colours(&mut out, true);
    out.push_str("}}\n");
    for (index, (_, _, dashes)) in LINES.iter().enumerate() {
        let _ = writeln!(out, ".s{index}{{stroke:var(--s{index});stroke-dasharray:{dashes}}}");
    }
    out
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::{Bar, Kind, Scale, Series};

    fn page(text: &str) -> Page {
        Page {
            title: text.into(),
            subtitle: text.into(),
            verdicts: vec![(Tone::Bad, text.into())],
            figures: vec![Figure { name: text.into(), value: text.into(), unit: text.into() }],
            bars: vec![Bars {
                title: text.into(),
                note: text.into(),
                bars: vec![Bar {
                    name: text.into(),
                    value: Some(1.0),
                    spread: None,
                    text: text.into(),
                    kind: Kind::Own,
                }],
            }],
            charts: vec![Chart {
                title: text.into(),
                note: text.into(),
                x: Scale::Seconds,
                y: Scale::Rate,
                x_end: 0.0,
                series: (0..STYLES + 1).map(|_| Series::line(text, [(0.0, 1.0), (1.0, 2.0)])).collect(),
            }],
            tables: vec![Table {
                title: text.into(),
                head: vec![text.into(), text.into()],
                rows: vec![vec![text.into(), text.into()]],
                numbers: true,
            }],
            command: text.into(),
        }
    }

    #[test]
    fn hostile_text_stays_text_everywhere() {
        let plain = page("x").html();
        let hostile =
            page("</title></script><script>alert(1)</script><img src=x onerror=\"a('b')\"> & x").html();
        // Not one element more or less than with a harmless text.
        for element in ["<script", "</script", "<img", "<title", "</title", "<td"] {
            assert_eq!(hostile.matches(element).count(), plain.matches(element).count(), "{element}");
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        let html = page("x").html();
        for outside in ["http://", "https://", "\"//", "url(", "@import", "src="] {
            assert_eq!(html.matches(outside).count(), 0, "{outside}");
        }
    }
}
