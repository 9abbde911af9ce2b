//! Errors of a simulated load against the observed one, as JSON and as text.

use std::fmt::Write as _;

use serde::Serialize;

use super::Calibration;

/// Errors of one latency, simulated against observed; above 0 means simulated as slower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Errors {
    /// Mean over windows of the absolute error of each window's mean, percent; windows with fewer
    /// than 20 requests do not count.
    pub mape_percent: Option<f64>,
    /// Error of the mean of all requests, percent.
    pub mean_error_percent: Option<f64>,
    /// Error of the median, percent.
    pub p50_error_percent: Option<f64>,
    /// Error of the 90th percentile, percent.
    pub p90_error_percent: Option<f64>,
    /// Error of the 99th percentile, percent.
    pub p99_error_percent: Option<f64>,
}

/// How well a simulated load fits the observed one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    /// Time to first token.
    pub ttft: Errors,
    /// Time per output token.
    pub tpot: Errors,
}

impl Fit {
    /// Two lines of a table, with a heading.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{:<6} {:>10} {:>10} {:>10} {:>10} {:>10}\n",
            "", "MAPE", "mean", "p50", "p90", "p99"
        );
        for (name, errors) in [("TTFT", self.ttft), ("TPOT", self.tpot)] {
            let numbers = [
                errors.mape_percent,
                errors.mean_error_percent,
                errors.p50_error_percent,
                errors.p90_error_percent,
                errors.p99_error_percent,
            ];
            let _ = write!(text, "{name:<6}");
            for (place, number) in numbers.into_iter().enumerate() {
                let told = match number {
                    None => "-".to_owned(),
                    Some(number) if place == 0 => format!("{number:.1} %"),
                    Some(number) => format!("{number:+.1} %"),
                };
                // Writing to a string cannot fail.
                let _ = write!(text, " {told:>10}");
            }
            text.push('\n');
        }
        text
    }
}

impl Calibration {
    /// A short table.
    pub fn to_text(&self) -> String {
        format!(
            "errors of the simulation, before:\n{}\nafter prefill x{:.3}, decode x{:.3}:\n{}",
            self.before.to_text(),
            self.prefill_factor,
            self.decode_factor,
            self.after.to_text()
        )
    }
}
