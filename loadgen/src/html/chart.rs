//! Line charts as inline SVG. Pure: text out, no I/O.
//!
//! *Promise:* a chart of any number of named series with labelled axes, few round ticks, and its values in a form the
//! page's script can read; readable without the script, in print, and by those who do not see all colours (each series
//! has a colour of the Okabe-Ito set and a dash pattern of its own).
//! *Law:* every name is escaped; a value that is not finite is a gap in the line, never a point.
//!
//! A chart is drawn twice, for wide and for narrow screens, and the style sheet shows one of them: the letters keep their
//! size, the lines get the width there is.

use std::fmt::Write as _;

use serde_json::json;

use super::escape;

/// How numbers of an axis run and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Seconds, even, from 0.
    Seconds,
    /// Latency in us, by powers of ten.
    Latency,
    /// `1 / (1 - p)` of a quantile `p`, by powers of ten: 1 is the minimum, 10 is p90, 100 is p99.
    Quantile,
    /// Records a second, even, from 0.
    Rate,
    /// Per cent of one CPU, even, from 0.
    Cpu,
    /// MiB, even, from 0.
    Memory,
}

/// A named line: points by ascending x. `None` in y is a gap.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Shown in the legend; any text.
    pub(crate) name: String,
    /// The points, in the units of the chart's scales.
    pub(crate) points: Vec<(f64, Option<f64>)>,
}

/// One chart: see [`Chart::html`].
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// The heading; any text.
    pub(crate) title: String,
    /// One sentence below it on how to read the chart; any text, may be empty.
    pub(crate) note: String,
    /// What x is.
    pub(crate) x: Scale,
    /// What y is.
    pub(crate) y: Scale,
    /// Where x ends at least, so that charts of the same time have the same axis; 0 is where the points end.
    pub(crate) x_end: f64,
    /// The lines; those without points are left out.
    pub(crate) series: Vec<Series>,
}

/// Colours and dash patterns there are; series beyond that share them.
pub(super) const STYLES: usize = 8;

/// Widths of the two drawings in CSS pixels at their natural size.
const WIDTHS: [(&str, f64); 2] = [("wide", 860.0), ("narrow", 360.0)];
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 44.0;

impl Chart {
    /// The chart with heading, legend and values as a `figure` element.
    pub(crate) fn html(&self) -> String {
        let mut out = String::new();
        // A String takes everything.
        let _ = write!(out, "<figure>\n<figcaption><h2>{}</h2>", escape(&self.title));
        if !self.note.is_empty() {
            let _ = write!(out, "<p>{}</p>", escape(&self.note));
        }
        out.push_str("</figcaption>\n");
        let series: Vec<&Series> =
            self.series.iter().filter(|series| series.drawable().next().is_some()).collect();
        if series.is_empty() {
            out.push_str("<p class=\"empty\">Nothing was measured.</p>\n</figure>\n");
            return out;
        }
        if series.len() > 1 {
            out.push_str("<ul class=\"legend\">");
            for (index, series) in series.iter().enumerate() {
                let _ = write!(
                    out,
                    "<li><svg width=\"26\" height=\"10\" aria-hidden=\"true\"><path class=\"s{}\" d=\"M1 5H25\"/></svg>{}</li>",
                    index % STYLES,
                    escape(&series.name)
                );
            }
            out.push_str("</ul>\n");
        }
        let (x, y) = (Axis::over(self.x, &series, true, self.x_end), Axis::over(self.y, &series, false, 0.0));
        out.push_str("<div class=\"plot\">\n");
        for (class, width) in WIDTHS {
            self.svg(&mut out, class, width, &series, &x, &y);
        }
        out.push_str("<div class=\"tip\" hidden></div>\n");
        let data = json!({
            "x": self.x.code(), "y": self.y.code(),
            "series": series.iter().map(|series| json!({
                "name": series.name,
                "points": series.points.iter()
                    .map(|(x, y)| json!([short(*x), y.filter(|y| y.is_finite()).map(short)]))
                    .collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        });
        // Inside a script element nothing is an entity; a `<` must not begin the end of it.
        let data = data.to_string().replace('<', "\\u003c");
        let _ = write!(out, "<script type=\"application/json\">{data}</script>\n</div>\n</figure>\n");
        out
    }

    fn svg(&self, out: &mut String, class: &str, width: f64, series: &[&Series], x: &Axis, y: &Axis) {
        let (right, bottom) = (width - RIGHT, HEIGHT - BOTTOM);
        let _ = write!(
            out,
            "<svg class=\"chart {class}\" viewBox=\"0 0 {width} {HEIGHT}\" role=\"img\" aria-label=\"{}\" \
             data-box=\"{LEFT} {TOP} {right} {bottom}\" data-x=\"{} {} {}\" data-y=\"{} {} {}\">\n<g class=\"grid\">",
            escape(&self.title),
            x.low,
            x.high,
            u8::from(x.log),
            y.low,
            y.high,
            u8::from(y.log)
        );
        let labels_wanted = if class == "wide" { 9 } else { 5 };
        let px = |value: f64| LEFT + x.place(value) * (right - LEFT);
        let py = |value: f64| bottom - y.place(value) * (bottom - TOP);
        let (x_ticks, y_ticks) = (x.ticks(labels_wanted), y.ticks(if y.log { 6 } else { 5 }));
        for tick in &y_ticks {
            let _ = write!(out, "<path d=\"M{LEFT} {:.1}H{right}\"/>", py(*tick));
        }
        for tick in &x_ticks {
            let _ = write!(out, "<path d=\"M{:.1} {bottom}v5\"/>", px(*tick));
        }
        let _ = write!(out, "<path class=\"base\" d=\"M{LEFT} {bottom}H{right}\"/></g>\n<g class=\"ticks\">");
        for tick in &y_ticks {
            let (at, text) = (py(*tick) + 4.0, self.y.label(*tick, y.high));
            let _ = write!(out, "<text x=\"{}\" y=\"{at:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 8.0);
        }
        for tick in &x_ticks {
            let at = px(*tick);
            let text = self.x.label(*tick, x.high);
            // A label that would reach over the edge ends there: letters are some 7 wide.
            let (at, anchor) = if at + 3.6 * text.chars().count() as f64 > width - 1.0 {
                (width - 1.0, "end")
            } else {
                (at, "middle")
            };
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
                bottom + 19.0
            );
        }
        let _ = write!(
            out,
            "<text class=\"axis\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            self.x.axis()
        );
        let _ = writeln!(
            out,
            "<text class=\"axis\" x=\"{:.1}\" y=\"12\" text-anchor=\"middle\" transform=\"rotate(-90)\">{}</text></g>",
            -(TOP + bottom) / 2.0,
            self.y.axis()
        );
        // The first series is drawn last, on top: it is the one the chart is about.
        for (index, series) in series.iter().enumerate().rev() {
            let _ = write!(out, "<path class=\"s{}\" d=\"", index % STYLES);
            let mut pen_down = false;
            let mut isolated = false;
            let mut last = None;
            for (vx, vy) in &series.points {
                let Some(vy) = vy.filter(|vy| vy.is_finite() && vx.is_finite()) else {
                    if isolated {
                        // A dot: a line of no length has round ends.
                        out.push_str("h0");
                    }
                    (pen_down, isolated) = (false, false);
                    continue;
                };
                let point = (format!("{:.1}", px(*vx)), format!("{:.1}", py(vy)));
                if pen_down && last.as_ref() == Some(&point) {
                    continue;
                }
                let _ = write!(out, "{}{} {}", if pen_down { 'L' } else { 'M' }, point.0, point.1);
                (isolated, pen_down) = (!pen_down, true);
                last = Some(point);
            }
            if isolated {
                out.push_str("h0");
            }
            out.push_str("\"/>\n");
        }
        let _ =
            write!(out, "<path class=\"cursor\" d=\"M0 {TOP}V{bottom}\" visibility=\"hidden\"/>\n</svg>\n");
    }
}

impl Series {
    /// A series of `points` by ascending x, all present.
    pub(crate) fn line(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().map(|(x, y)| (x, Some(y))).collect() }
    }

    fn drawable(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points
            .iter()
            .filter_map(|(x, y)| y.map(|y| (*x, y)))
            .filter(|(x, y)| x.is_finite() && y.is_finite())
    }
}

impl Scale {
    /// The name the page's script knows it by.
    fn code(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Latency => "us",
            Self::Quantile => "q",
            Self::Rate => "rate",
            Self::Cpu => "cpu",
            Self::Memory => "mib",
        }
    }

    fn axis(self) -> &'static str {
        match self {
            Self::Seconds => "time, s",
            Self::Latency => "latency",
            Self::Quantile => "percentile",
            Self::Rate => "records/s",
            Self::Cpu => "CPU, % of one core",
            Self::Memory => "resident memory, MiB",
        }
    }

    fn is_log(self) -> bool {
        matches!(self, Self::Latency | Self::Quantile)
    }

    /// The text at a tick of an axis that ends at `high`.
    fn label(self, value: f64, high: f64) -> String {
        match self {
            Self::Latency => latency_label(value),
            Self::Quantile if value <= 1.0 => "0 %".to_owned(),
            Self::Quantile => {
                let nines = format!("{:.9}", 100.0 - 100.0 / value);
                format!("{} %", nines.trim_end_matches('0').trim_end_matches('.'))
            }
            Self::Rate if high >= 1e6 && value > 0.0 => format!("{} M", short(value / 1e6)),
            Self::Rate if high >= 1e4 && value > 0.0 => format!("{} k", short(value / 1e3)),
            _ => short(value).to_string(),
        }
    }
}

/// `10 us`, `2 ms`, `1 s`: a latency of `us` in the unit that makes it shortest.
fn latency_label(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    format!("{} {unit}", short(value))
}

/// `value` with at most six significant digits, and no more than it needs.
fn short(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    // Through text: a division by a power of ten would bring back the digits that were rounded away.
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// An axis that covers all values of its chart.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    ends_at_data: bool,
}

impl Axis {
    fn over(scale: Scale, series: &[&Series], is_x: bool, end: f64) -> Self {
        let values = || {
            let points = series.iter().flat_map(|series| series.drawable());
            points.map(move |(x, y)| if is_x { x } else { y })
        };
        // No quantity here is negative.
        let highest = values().fold(end, f64::max);
        let log = scale.is_log();
        // Time and percentiles end where the data do; heights end at a round number.
        let (low, high) = match scale {
            Scale::Quantile => (1.0, highest.max(10.0)),
            Scale::Seconds => (0.0, if highest > 0.0 { highest } else { 1.0 }),
            Scale::Latency => {
                // Less than a tenth of a microsecond is below what the clocks can tell.
                let lowest = values().fold(f64::MAX, f64::min).max(0.1);
                let low = round_down(lowest);
                (low, round_up(highest.max(low * 1.01)).max(low * 10.0))
            }
            _ => {
                let step = step(highest.max(1e-9), 4);
                (0.0, (highest / step).ceil().max(1.0) * step)
            }
        };
        Self { low, high, log, ends_at_data: is_x }
    }

    /// Where `value` lies, 0 at the low end and 1 at the high one.
    fn place(&self, value: f64) -> f64 {
        let along = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        along.clamp(0.0, 1.0)
    }

    /// Round values on the axis, about `wanted` at most.
    fn ticks(&self, wanted: u32) -> Vec<f64> {
        if !self.log {
            let step = step(self.high, wanted.saturating_sub(1).max(2));
            return (0..).map(|n| f64::from(n) * step).take_while(|v| *v <= self.high * 1.000_001).collect();
        }
        let decades = (self.high / self.low).log10();
        let mantissas: &[f64] = if !self.ends_at_data && decades <= 2.2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        // With too many decades, every second or third.
        #[expect(clippy::cast_possible_truncation, reason = "a f64 has fewer than 700 decades")]
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 100")]
        let every = (decades / f64::from(wanted)).ceil().clamp(1.0, 100.0) as usize;
        let range = self.low * 0.999..=self.high * 1.001;
        (first..=last)
            .step_by(every)
            .flat_map(|power| mantissas.iter().map(move |mantissa| mantissa * 10f64.powi(power)))
            .filter(|value| range.contains(value))
            .collect()
    }
}

/// A step of 1, 2 or 5 times a power of ten that divides `range` into at most about `parts`.
fn step(range: f64, parts: u32) -> f64 {
    let rough = range / f64::from(parts);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|mantissa| mantissa * power)
        .into_iter()
        .find(|s| *s >= rough * 0.999)
        .unwrap_or(rough)
}

/// 1, 2 or 5 times a power of ten, not above `value`.
fn round_down(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0].map(|m| m * power).into_iter().find(|s| *s <= value * 1.000_001).unwrap_or(power)
}

/// 1, 2 or 5 times a power of ten, not below `value`.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].map(|m| m * power).into_iter().find(|s| *s >= value * 0.999_999).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(x: Scale, y: Scale, series: Vec<Series>) -> Chart {
        Chart { title: "a <title>".into(), note: "x & y".into(), x, y, x_end: 0.0, series }
    }

    #[test]
    fn ticks_are_round_and_few() {
        let series = Series::line("a", [(0.0, 3.0), (9.7, 87_300.0)]);
        let axis = Axis::over(Scale::Rate, &[&series], false, 0.0);
        assert_eq!(axis.high, 100_000.0);
        assert_eq!(axis.ticks(5), [0.0, 50_000.0, 100_000.0]);
        let labels: Vec<String> =
            axis.ticks(5).into_iter().map(|tick| Scale::Rate.label(tick, axis.high)).collect();
        assert_eq!(labels, ["0", "50 k", "100 k"]);

        let axis = Axis::over(Scale::Seconds, &[&series], true, 0.0);
        assert_eq!(axis.ticks(6), [0.0, 2.0, 4.0, 6.0, 8.0]);

        let series = Series::line("a", [(1.0, 37.0), (1e5, 1_430_000.0)]);
        let axis = Axis::over(Scale::Latency, &[&series], false, 0.0);
        let labels: Vec<String> =
            axis.ticks(5).into_iter().map(|tick| Scale::Latency.label(tick, axis.high)).collect();
        assert_eq!(labels, ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let axis = Axis::over(Scale::Quantile, &[&series], true, 0.0);
        let labels: Vec<String> =
            axis.ticks(9).into_iter().map(|tick| Scale::Quantile.label(tick, axis.high)).collect();
        assert_eq!(labels, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]);
    }

    #[test]
    fn axes_hold_one_value_or_zero() {
        for (scale, value) in
            [(Scale::Rate, 0.0), (Scale::Latency, 0.0), (Scale::Latency, 1e9), (Scale::Cpu, 3.0)]
        {
            let series = Series::line("a", [(0.0, value)]);
            let axis = Axis::over(scale, &[&series], false, 0.0);
            assert!(axis.high > axis.low && axis.high.is_finite(), "{scale:?} {value}");
            assert!((0.0..=1.0).contains(&axis.place(value)));
            assert!((2..=7).contains(&axis.ticks(5).len()), "{scale:?} {value}: {:?}", axis.ticks(5));
        }
    }

    #[test]
    fn a_gap_breaks_the_line_and_a_lone_point_is_a_dot() {
        let series = Series {
            name: "a".into(),
            points: vec![
                (0.0, Some(1.0)),
                (1.0, Some(2.0)),
                (2.0, None),
                (3.0, Some(f64::NAN)),
                (4.0, Some(2.0)),
            ],
        };
        let html = chart(Scale::Seconds, Scale::Rate, vec![series]).html();
        let line = html.lines().find(|line| line.starts_with("<path class=\"s0\"")).unwrap();
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert_eq!(line.matches('L').count(), 1, "{line}");
        assert!(line.contains("h0\"/>"), "{line}");
        assert!(!html.contains("NaN"));
    }

    #[test]
    fn hostile_names_stay_text() {
        let hostile = "</script><script>alert(1)</script>\"&";
        let series = Series::line(hostile, [(1.0, 1.0)]);
        let html = chart(Scale::Quantile, Scale::Latency, vec![series.clone(), series]).html();
        assert!(!html.contains("<script>"), "{html}");
        assert_eq!(html.matches("</script>").count(), 1, "{html}");
        assert!(html.contains("&lt;/script&gt;&lt;script&gt;"));
        assert!(html.contains("a &lt;title&gt;"));
    }

    #[test]
    fn a_chart_without_values_says_so() {
        let empty = Series { name: "a".into(), points: vec![(1.0, None)] };
        assert!(chart(Scale::Seconds, Scale::Rate, vec![empty]).html().contains("Nothing was measured."));
    }
}
