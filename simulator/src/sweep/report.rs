//! A sweep as one HTML page that needs nothing else.
//!
//! The first parameter is the axis and each value of the second a line, but a seed is neither:
//! every point is drawn as a dot and the line goes through the means. Values that are no numbers
//! stand side by side in the order given.

use std::fmt::Write as _;

use super::parameter::{label, number};
use super::table::{SHOWN, Shown};
use super::{Row, Sweep};
use crate::chart::{Axis, Chart, STYLE, escaped};
use crate::compare::table::attains;

/// Classes of lines that the style sheet tells apart.
const CLASSES: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];

/// The two ways to look at a row: along the axis, and by line.
struct View<'a> {
    sweep: &'a Sweep,
    axis_is_second: bool,
    lines: Vec<&'a str>,
    axis: Vec<&'a str>,
}

impl<'a> View<'a> {
    fn new(sweep: &'a Sweep) -> Self {
        let second = sweep.second_parameter.as_deref();
        let axis_is_second = sweep.first_parameter == "seed" && second.is_some();
        let has_lines = second.is_some_and(|second| second != "seed") && !axis_is_second;
        let mut view = Self {
            sweep,
            axis_is_second,
            lines: Vec::new(),
            axis: Vec::new(),
        };
        for row in &sweep.runs {
            let (at, line) = (view.at(row), row.second.as_deref().unwrap_or_default());
            if !view.axis.contains(&at) {
                view.axis.push(at);
            }
            if has_lines && !view.lines.contains(&line) {
                view.lines.push(line);
            }
        }
        if view.lines.is_empty() {
            view.lines.push("");
        }
        view
    }

    /// Value of a row on the axis.
    fn at(&self, row: &'a Row) -> &'a str {
        if self.axis_is_second {
            row.second.as_deref().unwrap_or_default()
        } else {
            &row.first
        }
    }

    fn is_on(&self, row: &Row, line: &str) -> bool {
        self.lines.len() < 2 || row.second.as_deref() == Some(line)
    }

    fn axis_name(&self) -> &str {
        let second = self.sweep.second_parameter.as_deref();
        match second {
            Some(second) if self.axis_is_second => second,
            _ => &self.sweep.first_parameter,
        }
    }

    /// Where a value is on the axis: itself, or its place if not all are numbers.
    fn place(&self, value: &str) -> f64 {
        if self.axis.iter().all(|value| number(value).is_some()) {
            return number(value).unwrap_or_default();
        }
        let place = self.axis.iter().position(|other| *other == value);
        place.unwrap_or_default() as f64
    }

    fn x(&self) -> Axis {
        let places = self.axis.iter().map(|value| self.place(value));
        let mut axis = Axis::around(&label(self.axis_name(), &self.axis), places);
        if self.axis.iter().any(|value| number(value).is_none()) {
            axis.low = -0.5;
            axis.high = self.axis.len() as f64 - 0.5;
            let marks = self
                .axis
                .iter()
                .map(|value| (self.place(value), escaped(value)));
            axis.marks = marks.collect();
        }
        axis
    }

    /// One number over the axis.
    fn chart(&self, shown: &Shown) -> String {
        let goals = self
            .sweep
            .runs
            .iter()
            .map(|row| f64::from(row.outcome.attainment_goal_percent));
        let goal = goals.fold(f64::NEG_INFINITY, f64::max);
        let with_goal = shown.name == "attainment" && goal.is_finite();
        let values = self.sweep.runs.iter().filter_map(shown.of);
        let y = Axis::around(shown.name, values.chain(with_goal.then_some(goal)));
        let mut chart = Chart::new(self.x(), y);
        if with_goal {
            chart.level(goal);
        }
        for (line, class) in self.lines.iter().zip(CLASSES.iter().cycle()) {
            let rows = || self.sweep.runs.iter().filter(|row| self.is_on(row, line));
            let mean = |value: &&str| {
                let of_value = rows().filter(|row| self.at(row) == *value);
                let numbers: Vec<f64> = of_value.filter_map(shown.of).collect();
                let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
                (self.place(value), mean.is_finite().then_some(mean))
            };
            chart.line(class, line, self.axis.iter().map(mean));
            for row in rows() {
                if let Some(value) = (shown.of)(row) {
                    chart.dot(class, &name(row), self.place(self.at(row)), value, false);
                }
            }
        }
        chart.end()
    }

    /// Which colour is which value.
    fn legend(&self) -> String {
        let mut text = String::new();
        let Some(second) = self.sweep.second_parameter.as_deref() else {
            return text;
        };
        if self.lines.len() < 2 {
            return text;
        }
        let _ = write!(text, "<p>{}:", escaped(second));
        for (line, class) in self.lines.iter().zip(CLASSES.iter().cycle()) {
            let _ = write!(
                text,
                " <span class=\"key {class}\">{}</span>",
                escaped(line)
            );
        }
        text.push_str("</p>");
        text
    }
}

fn name(row: &Row) -> String {
    let second = row.second.as_deref().unwrap_or_default();
    format!("{} {second}", row.first).trim().to_owned()
}

/// The page.
// Writing to a string cannot fail.
pub(super) fn page(sweep: &Sweep) -> String {
    let view = View::new(sweep);
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Sweep</title><style>{STYLE}</style><body><main>\
         <h1>{}</h1><p>Attainment is the share of all requests within both latency limits; the dashed line is what \
         is wanted. GPU-hours count while a replica starts, serves and drains. The bound is the clairvoyant plan \
         that holds the objective in every minute.</p>",
        title(sweep)
    );
    let _ = write!(html, "<section>{}<div class=\"pair\">", view.legend());
    for shown in SHOWN.iter().take(5) {
        let _ = write!(html, "<figure>{}</figure>", view.chart(shown));
    }
    let _ = write!(
        html,
        "<figure>{}<figcaption>Cost and attainment of every point</figcaption></figure>",
        frontier(&view)
    );
    html.push_str("</div></section><section>");
    html.push_str(&table(sweep));
    html.push_str("</section></main></body></html>\n");
    html
}

fn title(sweep: &Sweep) -> String {
    let row = sweep.runs.first();
    let policy = row.map_or("", |row| row.outcome.policy.as_str());
    let trace = row.map_or("", |row| row.trace.as_str());
    let second = sweep.second_parameter.as_ref();
    let second = second.map_or(String::new(), |second| format!(" and {second}"));
    escaped(&format!(
        "{policy} on {trace} by {}{second}",
        sweep.first_parameter
    ))
}

fn frontier(view: &View<'_>) -> String {
    let rows = || view.sweep.runs.iter();
    let x = Axis::around("GPU-hours", rows().map(|row| row.outcome.gpu_hours));
    let attained = rows().filter_map(|row| row.outcome.attainment_percent);
    let mut chart = Chart::new(x, Axis::around("attainment, %", attained));
    // Repetitions lie so close that names would hide them.
    let named = view.sweep.runs.len() <= 12 && super::table::over_seeds(view.sweep).is_none();
    for (line, class) in view.lines.iter().zip(CLASSES.iter().cycle()) {
        for row in rows().filter(|row| view.is_on(row, line)) {
            if let Some(percent) = row.outcome.attainment_percent {
                chart.dot(class, &name(row), row.outcome.gpu_hours, percent, named);
            }
        }
    }
    chart.end()
}

fn table(sweep: &Sweep) -> String {
    let second = sweep.second_parameter.as_deref();
    let mut html = format!("<table><tr><th>{}", escaped(&sweep.first_parameter));
    if let Some(second) = second {
        let _ = write!(html, "<th>{}", escaped(second));
    }
    for shown in SHOWN {
        let _ = write!(html, "<th>{}", shown.name);
    }
    html.push_str("</tr>");
    for row in &sweep.runs {
        let missed = if attains(&row.outcome) {
            ""
        } else {
            " class=\"missed\""
        };
        let _ = write!(html, "<tr{missed}><td>{}", escaped(&row.first));
        if let Some(second) = &row.second {
            let _ = write!(html, "<td>{}", escaped(second));
        }
        for shown in SHOWN {
            let digits = shown.digits;
            match (shown.of)(row) {
                Some(value) => {
                    let _ = write!(html, "<td>{value:.digits$}");
                }
                None => html.push_str("<td>-"),
            }
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
    html
}
