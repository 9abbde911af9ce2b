//! A sweep as text and as CSV.
//!
//! The text has one line per point, in the order of the grid. Where a seed is varied beside another
//! parameter, a second block has the mean and the range over the seeds.

use std::fmt::Write as _;

use super::{Row, Sweep, SweepError};
use crate::compare::table;

/// The numbers of a point that people look at first.
pub(super) struct Shown {
    /// Heading.
    pub(super) name: &'static str,
    /// Digits after the point.
    pub(super) digits: usize,
    /// The number of a row.
    pub(super) of: fn(&Row) -> Option<f64>,
}

/// The columns of every point.
pub(super) const SHOWN: [Shown; 6] = [
    Shown {
        name: "attainment",
        digits: 2,
        of: |row| row.outcome.attainment_percent,
    },
    Shown {
        name: "worst hour",
        digits: 2,
        of: |row| row.outcome.worst_hour_attainment_percent,
    },
    Shown {
        name: "GPU-hours",
        digits: 1,
        of: |row| Some(row.outcome.gpu_hours),
    },
    Shown {
        name: "x bound",
        digits: 3,
        of: |row| row.outcome.gpu_hours_over_clairvoyant,
    },
    Shown {
        name: "changes",
        digits: 0,
        of: |row| Some(row.outcome.scale_events as f64),
    },
    Shown {
        name: "dropped",
        digits: 0,
        of: |row| Some(row.outcome.dropped_by_scale_down as f64),
    },
];

/// Rows by the value they have in common.
type Groups<'a> = Vec<(&'a str, Vec<&'a Row>)>;

/// Rows with the same value of the parameter that is no seed, in order of first appearance.
pub(super) fn over_seeds(sweep: &Sweep) -> Option<(&str, Groups<'_>)> {
    let second = sweep.second_parameter.as_deref()?;
    let (name, of): (&str, fn(&Row) -> &str) = match (sweep.first_parameter.as_str(), second) {
        ("seed", other) => (other, |row| row.second.as_deref().unwrap_or_default()),
        (other, "seed") => (other, |row| &row.first),
        _ => return None,
    };
    let mut groups: Groups<'_> = Vec::new();
    for row in &sweep.runs {
        match groups.iter_mut().find(|(value, _)| *value == of(row)) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((of(row), vec![row])),
        }
    }
    Some((name, groups))
}

/// The results for people.
pub(super) fn text(sweep: &Sweep) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(row) = sweep.runs.first() {
        let outcome = &row.outcome;
        let hours = outcome.simulated_seconds / 3_600.0;
        let _ = writeln!(
            text,
            "{}, {}: {} requests in {hours:.2} h at the first point",
            row.trace, outcome.policy, outcome.requests
        );
    }
    let second = sweep.second_parameter.as_deref().unwrap_or_default();
    head(&mut text, &sweep.first_parameter, second, 10);
    for row in &sweep.runs {
        let missed = if table::attains(&row.outcome) {
            ' '
        } else {
            '*'
        };
        let second = row.second.as_deref().unwrap_or_default();
        let _ = write!(text, "{missed} {:<12} {second:<12}", row.first);
        for shown in SHOWN {
            let number = number((shown.of)(row), shown.digits);
            let _ = write!(text, " {number:>10}");
        }
        text.push('\n');
    }
    if let Some((name, groups)) = over_seeds(sweep) {
        text.push_str("\nmean (least to most) over the seeds\n");
        head(&mut text, name, "", 24);
        for (value, rows) in groups {
            let _ = write!(text, "  {value:<12} {:<12}", "");
            for shown in SHOWN {
                let _ = write!(text, " {:>24}", spread(&rows, &shown));
            }
            text.push('\n');
        }
    }
    text.push_str(
        "\n* misses the objective. Attainment in percent. x bound: GPU-hours over those of the clairvoyant plan \
         that holds every minute.\n",
    );
    text
}

fn head(text: &mut String, first: &str, second: &str, width: usize) {
    let _ = write!(text, "  {first:<12} {second:<12}");
    for shown in SHOWN {
        let _ = write!(text, " {:>width$}", shown.name);
    }
    text.push('\n');
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

fn spread(rows: &[&Row], shown: &Shown) -> String {
    let values: Vec<f64> = rows.iter().filter_map(|row| (shown.of)(row)).collect();
    if values.is_empty() {
        return "-".to_owned();
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let digits = shown.digits;
    format!("{mean:.digits$} ({least:.digits$} to {most:.digits$})")
}

/// The results as CSV: the parameters' names, then the columns of a comparison.
pub(super) fn csv(sweep: &Sweep) -> Result<String, SweepError> {
    let columns = table::columns();
    let (trace, further) = columns.split_at(1);
    let keys: Vec<&str> = [trace, &["first", "second"], further].concat();
    let text = table::csv(&keys, &sweep.runs)?;
    // The header has the names that the user gave.
    let second = sweep.second_parameter.as_deref().unwrap_or("second");
    let names = format!("trace,{},{second},", sweep.first_parameter);
    Ok(text.replacen("trace,first,second,", &names, 1))
}
