//! Plots as SVG text: axes, lines and dots, without a script.
//!
//! Numbers are written with two digits after the point, so that the same results give the same
//! bytes. Colours are classes of the page's style sheet, which knows light and dark.

use std::fmt::Write as _;

/// Style sheet of a page with plots, light and dark.
pub(crate) const STYLE: &str = include_str!("chart.css");

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 36.0;

/// Width of a letter of a name, and height of a name, about.
const NAME_LETTER_WIDTH: f64 = 6.2;
const NAME_HEIGHT: f64 = 12.0;

/// A range of one axis and what it says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Ticks and their texts, where these are not the numbers themselves.
    pub(crate) marks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that holds all of `values`, from 0 if they are not far from it.
    pub(crate) fn around(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low > high {
            return Self {
                label: label.to_owned(),
                low: 0.0,
                high: 1.0,
                marks: Vec::new(),
            };
        }
        let low = if low < 0.5 * high { 0.0 } else { low };
        let room = ((high - low) * 0.06).max(1e-6);
        let low = if low > 0.0 { low - room } else { low };
        Self {
            label: label.to_owned(),
            low,
            high: high + room,
            marks: Vec::new(),
        }
    }

    fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low).max(1e-12)).clamp(0.0, 1.0)
    }

    /// Round values within the range, about five.
    fn ticks(&self) -> Vec<(f64, String)> {
        if !self.marks.is_empty() {
            return self.marks.clone();
        }
        let rough = (self.high - self.low).max(1e-9) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough)
            .unwrap_or(power);
        let first = (self.low / step).ceil();
        let ticks = (0..12).map(|n| (first + f64::from(n)) * step);
        ticks
            .take_while(|tick| *tick <= self.high + 1e-9)
            .map(|tick| (tick, short(tick)))
            .collect()
    }
}

/// A plot that is being drawn.
#[derive(Debug)]
pub(crate) struct Chart {
    svg: String,
    x: Axis,
    y: Axis,
    /// Begin, end and height of the names that are written.
    names: Vec<(f64, f64, f64)>,
}

impl Chart {
    pub(crate) fn new(x: Axis, y: Axis) -> Self {
        let mut chart = Self {
            svg: format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">"),
            x,
            y,
            names: Vec::new(),
        };
        chart.axes();
        chart
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        (
            LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - TOP - BOTTOM),
        )
    }

    // Writing to a string cannot fail.
    fn axes(&mut self) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (tick, text) in self.y.ticks() {
            let (_, y) = self.place(self.x.low, tick);
            let _ = write!(
                self.svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.2}H{right}\"/><text class=\"tick\" text-anchor=\"end\" \
                 x=\"{:.2}\" y=\"{:.2}\">{text}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        for (tick, text) in self.x.ticks() {
            let (x, _) = self.place(tick, self.y.low);
            let _ = write!(
                self.svg,
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{x:.2}\" y=\"{:.2}\">{text}</text>",
                bottom + 15.0
            );
        }
        let _ = write!(
            self.svg,
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/><text class=\"label\" text-anchor=\"end\" \
             x=\"{right}\" y=\"{:.2}\">{}</text><text class=\"label\" x=\"4\" y=\"10\">{}</text>",
            HEIGHT - 4.0,
            escaped(&self.x.label),
            escaped(&self.y.label)
        );
    }

    /// A level line across, such as an objective.
    pub(crate) fn level(&mut self, y: f64) {
        let (_, y) = self.place(self.x.low, y);
        let right = WIDTH - RIGHT;
        let _ = write!(
            self.svg,
            "<path class=\"goal\" d=\"M{LEFT} {y:.2}H{right}\"/>"
        );
    }

    /// A line through points; gaps in the numbers are gaps in the line.
    pub(crate) fn line(
        &mut self,
        class: &str,
        name: &str,
        points: impl Iterator<Item = (f64, Option<f64>)>,
    ) {
        let mut path = String::new();
        let mut pen = 'M';
        for (x, y) in points {
            let Some(y) = y else {
                pen = 'M';
                continue;
            };
            let (x, y) = self.place(x, y);
            let _ = write!(path, "{pen}{x:.2} {y:.2}");
            pen = 'L';
        }
        let _ = write!(
            self.svg,
            "<path class=\"line {class}\" d=\"{path}\"><title>{}</title></path>",
            escaped(name)
        );
    }

    /// A dot with its name, written beside it if `named`.
    pub(crate) fn dot(&mut self, class: &str, name: &str, x: f64, y: f64, named: bool) {
        let (x, y) = self.place(x, y);
        let name = escaped(name);
        let _ = write!(
            self.svg,
            "<circle class=\"dot {class}\" cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"4\"><title>{name}</title></circle>"
        );
        if named {
            let (anchor, at) = if x > WIDTH * 0.7 {
                ("end", x - 7.0)
            } else {
                ("start", x + 7.0)
            };
            let height = self.free_height(anchor, at, y + 3.5, name.len());
            let _ = write!(
                self.svg,
                "<text class=\"name\" text-anchor=\"{anchor}\" x=\"{at:.2}\" y=\"{height:.2}\">{name}</text>"
            );
        }
    }

    /// The height nearest below `y` at which a name covers no other.
    fn free_height(&mut self, anchor: &str, at: f64, y: f64, letters: usize) -> f64 {
        let width = NAME_LETTER_WIDTH * letters as f64;
        let (from, to) = if anchor == "end" {
            (at - width, at)
        } else {
            (at, at + width)
        };
        let covers = |height: f64| {
            let mut names = self.names.iter();
            names.any(|(a, b, y)| *a < to && from < *b && (y - height).abs() < NAME_HEIGHT)
        };
        let heights = (0..8).map(|step| y + NAME_HEIGHT * f64::from(step));
        let free = heights
            .into_iter()
            .find(|height| !covers(*height))
            .unwrap_or(y);
        self.names.push((from, to, free));
        free
    }

    pub(crate) fn end(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// A tick's text.
fn short(tick: f64) -> String {
    let rounded = (tick * 1e3).round() / 1e3;
    format!("{}", rounded + 0.0)
}

/// Text that may stand in HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis {
            label: String::new(),
            low: 81.0,
            high: 100.0,
            marks: Vec::new(),
        };
        let texts: Vec<String> = axis.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(texts, ["85", "90", "95", "100"]);
        let none = Axis::around("", std::iter::empty());
        assert!((none.low, none.high) == (0.0, 1.0));
    }

    #[test]
    fn names_cannot_become_markup() {
        let mut chart = Chart::new(
            Axis::around("x", [1.0].into_iter()),
            Axis::around("y", [1.0].into_iter()),
        );
        chart.dot("us", "<b>&\"", 1.0, f64::NAN, true);
        let svg = chart.end();
        assert!(
            svg.contains("&lt;b&gt;&amp;&quot;") && !svg.contains("<b>"),
            "{svg}"
        );
    }
}
