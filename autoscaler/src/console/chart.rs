//! Lines over the last hour as SVG, with their text alternative.
//!
//! The newest point is at the right edge, whatever the length of the history. A value holds until
//! the next one, as replicas do, and what is not known is a gap. Colours and widths are classes of
//! the style sheet; sizes come from the page, for the drawing stretches.

use std::fmt::Write as _;

use super::{
    history::{PERIOD, POINTS_MAX},
    html::Html,
};

/// Units of the drawing: the page stretches them.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 60.0;
/// Room above the highest and below the lowest value, so that lines at the edge keep their width.
const ROOM: f64 = 2.0;

/// A line, oldest value first.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Its name in the text alternative.
    pub(super) name: &'static str,
    /// Its class in the style sheet; one that begins with `area` is filled to the ground.
    pub(super) class: &'static str,
    /// The values; nothing where one is not known.
    pub(super) values: Vec<Option<f64>>,
}

/// Lowest and highest value that is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Scale {
    /// From none to at least all replicas: an even number, so that the middle is one too.
    pub(super) fn of_replicas(lines: &[Line]) -> Self {
        let most = known(lines).fold(0.0, f64::max);
        let mut step: f64 = 2.0;
        // 2, 4, 6, 8, 10, then 20, 40, ..., 100, then 200.
        while most > 5.0 * step {
            step *= 10.0;
        }
        let high = (most / step).ceil().max(1.0) * step;
        Self { low: 0.0, high }
    }

    /// From a whole percent below everything shown to all requests.
    pub(super) fn of_percent(lines: &[Line], goal: Option<f64>) -> Self {
        let least = known(lines).chain(goal).fold(99.0, f64::min);
        let low = (least - 1.0).floor().max(0.0);
        // Even, so that the middle is whole.
        Self {
            low: low - low % 2.0,
            high: 100.0,
        }
    }

    /// The value in the middle.
    pub(super) fn middle(self) -> f64 {
        f64::midpoint(self.low, self.high)
    }

    fn height(self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low).max(f64::EPSILON);
        HEIGHT - ROOM - share.clamp(0.0, 1.0) * (HEIGHT - 2.0 * ROOM)
    }
}

fn known(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines
        .iter()
        .flat_map(|line| line.values.iter().flatten().copied())
}

/// Draws `lines`, the first at the back, with `subject` in front of the text alternative and a
/// level line at `goal`.
pub(super) fn draw(
    page: &mut Html,
    class: &'static str,
    subject: &str,
    scale: Scale,
    lines: &[Line],
    goal: Option<f64>,
) {
    page.add(
        "<svg class=\"{}\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        &[&class, &WIDTH, &HEIGHT, &alternative(subject, lines, goal)],
    );
    let middle = scale.height(scale.middle());
    page.add(
        "<path class=\"grid\" d=\"M0 {}H{}M0 {}H{}M0 {}H{}\"/>",
        &[&ROOM, &WIDTH, &middle, &WIDTH, &(HEIGHT - ROOM), &WIDTH],
    );
    if let Some(goal) = goal {
        let y = format!("{:.1}", scale.height(goal));
        page.add("<path class=\"goal\" d=\"M0 {}H{}\"/>", &[&y, &WIDTH]);
    }
    for line in lines {
        let filled = line.class.starts_with("area");
        let path = steps(scale, &line.values, filled);
        if !path.is_empty() {
            page.add("<path class=\"{}\" d=\"{}\"/>", &[&line.class, &path]);
        }
    }
    page.add("</svg>", &[]);
}

/// The path of a line in steps; a new height is written only where it changes.
fn steps(scale: Scale, values: &[Option<f64>], filled: bool) -> String {
    let count = values.len().min(POINTS_MAX);
    let values = &values[values.len() - count..];
    let place = |index: usize| {
        let from_right = (count - 1 - index) as f64;
        WIDTH * (1.0 - from_right / (POINTS_MAX - 1) as f64)
    };
    let mut path = String::new();
    let mut pen: Option<(f64, f64)> = None;
    let mut last = 0.0;
    // Writing to a string cannot fail.
    for (index, value) in values.iter().enumerate() {
        let (x, y) = (place(index), value.map(|value| scale.height(value)));
        match (pen, y) {
            (None, Some(y)) => {
                // The dot of a single value is seen by its round ends.
                let _ = write!(path, "M{x:.1} {y:.1}h.1");
                pen = Some((x, y));
            }
            (Some((begin, _)), None) => {
                end(&mut path, last, begin, filled);
                pen = None;
            }
            (Some((begin, before)), Some(y)) if (before - y).abs() >= 0.05 => {
                let _ = write!(path, "H{x:.1}V{y:.1}");
                pen = Some((begin, y));
            }
            _ => {}
        }
        last = x;
    }
    if let Some((begin, _)) = pen {
        end(&mut path, last, begin, filled);
    }
    path
}

fn end(path: &mut String, x: f64, begin: f64, filled: bool) {
    let _ = write!(path, "H{x:.1}");
    if filled {
        let _ = write!(path, "V{HEIGHT}H{begin:.1}Z");
    }
}

/// A sentence with the range and the end of each line.
fn alternative(subject: &str, lines: &[Line], goal: Option<f64>) -> String {
    let points = lines.iter().map(|line| line.values.len()).max();
    let minutes = points.unwrap_or_default() as u64 * PERIOD.as_secs() / 60;
    let mut text = format!("{subject} over the last {minutes} min");
    let mut mark = ':';
    for line in lines {
        let known = || line.values.iter().flatten().copied();
        let least = known().fold(f64::INFINITY, f64::min);
        let most = known().fold(f64::NEG_INFINITY, f64::max);
        let now = line.values.last().copied().flatten();
        let now = now.map_or_else(|| "not known".to_owned(), |now| now.to_string());
        let _ = if least <= most {
            write!(text, "{mark} {} {least} to {most}, now {now}", line.name)
        } else {
            write!(text, "{mark} {} not known", line.name)
        };
        mark = ';';
    }
    if let Some(goal) = goal {
        let _ = write!(text, "; objective {goal}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[Option<f64>]) -> Line {
        Line {
            name: "desired",
            class: "line",
            values: values.to_vec(),
        }
    }

    #[test]
    fn scales_hold_everything_and_have_a_whole_middle() {
        for (most, want) in [
            (0.0, 2.0),
            (2.0, 2.0),
            (3.0, 4.0),
            (9.0, 10.0),
            (11.0, 20.0),
            (101.0, 200.0),
            (9999.0, 10_000.0),
        ] {
            let scale = Scale::of_replicas(&[line(&[Some(most), None])]);
            assert_eq!((scale.low, scale.high), (0.0, want), "{most}");
        }
        for (least, low) in [(100.0, 98.0), (91.2, 90.0), (0.0, 0.0)] {
            let scale = Scale::of_percent(&[line(&[Some(least)])], Some(99.0));
            assert!((scale.low - low).abs() < 1e-9, "{least}");
        }
    }

    #[test]
    fn a_level_line_is_short_and_ends_at_the_right_edge() {
        let scale = Scale {
            low: 0.0,
            high: 2.0,
        };
        let path = steps(scale, &[Some(1.0); POINTS_MAX], false);
        assert_eq!(path, "M0.0 30.0h.1H240.0");
        assert_eq!(steps(scale, &[Some(1.0)], false), "M240.0 30.0h.1H240.0");
        assert_eq!(steps(scale, &[], false), "");
    }

    #[test]
    fn what_is_not_known_is_a_gap() {
        let scale = Scale {
            low: 0.0,
            high: 2.0,
        };
        let path = steps(scale, &[Some(1.0), None, Some(2.0), Some(0.0)], true);
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert_eq!(path.matches('Z').count(), 2, "{path}");
        assert!(path.ends_with("V58.0H240.0V60H238.0Z"), "{path}");
    }

    #[test]
    fn more_values_than_fit_leave_the_oldest_out() {
        let mut values = vec![Some(2.0); 50];
        values.extend([Some(1.0); POINTS_MAX]);
        let scale = Scale {
            low: 0.0,
            high: 2.0,
        };
        assert_eq!(steps(scale, &values, false), "M0.0 30.0h.1H240.0");
    }

    #[test]
    fn the_alternative_says_what_is_seen() {
        let lines = [line(&[Some(3.0), Some(6.0), None]), line(&[None; 3])];
        assert_eq!(
            alternative("Prefill of a", &lines, Some(99.0)),
            "Prefill of a over the last 1 min: desired 3 to 6, now not known; desired not known; objective 99"
        );
    }
}
