//! The embedded days: real-shaped load in which prefill and decode demand move apart.
//!
//! The data and where they come from are in `simulator/data/README.md`. Each ten-minute row stands
//! for its middle. This module only reads the tables; what is sent from it is up to
//! [`super::Arrivals`].

use thiserror::Error;

use super::curve::{Curve, CurveError, Load};
use crate::time::{Nanos, from_seconds};

static SERVEGEN_DAY: &str = include_str!("../../data/servegen_mlarge_day0_10min.csv");
static REASONING_DAY: &str = include_str!("../../data/servegen_deepseek_r1_day0_10min.csv");
const HALF_ROW_SECONDS: f64 = 300.0;

/// A table of load that cannot be read.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum DayError {
    /// A line does not hold six numbers.
    #[error("load table line `{0}` does not hold six numbers: write seconds, rate, means and cvs")]
    Line(usize),
    /// The numbers make no curve.
    #[error(transparent)]
    Curve(#[from] CurveError),
}

/// One day of a chat service: 24 hours, 6 to 23 requests per second, prompts growing and answers
/// shrinking.
pub fn servegen_day() -> Result<Curve, DayError> {
    parse(SERVEGEN_DAY)
}

/// One day of a reasoning service: 24 hours, 2 to 26 requests per second, short questions beside
/// very long ones, answers whose mean moves between 600 and 3,900 tokens.
pub fn reasoning_day() -> Result<Curve, DayError> {
    parse(REASONING_DAY)
}

fn parse(table: &str) -> Result<Curve, DayError> {
    let lines = table
        .lines()
        .enumerate()
        .skip(1)
        .filter(|(_, line)| !line.is_empty());
    let points = lines
        .map(|(index, line)| point(line).ok_or(DayError::Line(index + 1)))
        .collect::<Result<_, _>>()?;
    Ok(Curve::new(points)?)
}

fn point(line: &str) -> Option<(Nanos, Load)> {
    let mut numbers = line
        .split(',')
        .map(|field| field.trim().parse::<f64>().ok());
    let mut next = || numbers.next().flatten();
    let at = from_seconds(next()? + HALF_ROW_SECONDS);
    let load = Load {
        requests_per_second: next()?,
        input_tokens_mean: next()?,
        output_tokens_mean: next()?,
        input_tokens_cv: next()?,
        output_tokens_cv: next()?,
    };
    Some((at, load))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, HOUR};

    #[test]
    fn prompts_grow_while_answers_shrink() {
        let day = servegen_day().unwrap();
        let night = day.at(5 * HOUR);
        let evening = day.at(20 * HOUR);
        assert!(evening.input_tokens_mean > 1.8 * night.input_tokens_mean);
        assert!(evening.output_tokens_mean < 0.25 * night.output_tokens_mean);
        assert!(day.at(DAY).requests_per_second > 1.0);
        assert!(day.peak_requests_per_second() < 30.0);
    }

    #[test]
    fn answers_of_the_reasoning_day_are_long_and_change_by_the_hour() {
        let day = reasoning_day().unwrap();
        let (morning, evening) = (day.at(8 * HOUR), day.at(16 * HOUR));
        assert!(morning.output_tokens_mean > 3.0 * evening.output_tokens_mean);
        let hours = (0..24).map(|hour| day.at(hour * HOUR).output_tokens_mean);
        assert!(hours.into_iter().all(|tokens| tokens > 600.0));
        assert!(day.at(DAY).requests_per_second > 1.0);
        assert!(day.peak_requests_per_second() < 30.0);
    }

    #[test]
    fn broken_lines_are_named() {
        let table = "header\n0,1,2,3,4,5\n600,1,2\n";
        assert_eq!(parse(table), Err(DayError::Line(3)));
    }
}
