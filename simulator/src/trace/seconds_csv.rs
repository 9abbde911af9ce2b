//! Our own format: CSV with `timestamp_s`, `input_tokens` and `output_tokens`.
//!
//! Times are seconds from the start of the trace. What comes first may come late, but not by more
//! than a year: such a time is one of a calendar.

use super::csv_rows::CsvRows;
use super::{Row, Rows, TraceFault};
use crate::engine::Arrival;
use crate::time::from_seconds;

/// The columns, in the order they are read.
pub(super) const COLUMNS: &[&str] = &["timestamp_s", "input_tokens", "output_tokens"];

/// The first request comes at most so late, seconds.
const FIRST_SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// Rows of a file in this format.
pub(super) struct SecondsCsv {
    rows: CsvRows,
    any: bool,
}

impl SecondsCsv {
    pub(super) fn new(rows: CsvRows) -> Self {
        Self { rows, any: false }
    }
}

impl Rows for SecondsCsv {
    fn read(&mut self) -> Result<Option<Row>, TraceFault> {
        if !self.rows.advance()? {
            return Ok(None);
        }
        let latest = if self.any {
            f64::INFINITY
        } else {
            FIRST_SECONDS_MAX
        };
        let seconds = self
            .rows
            .text(0)
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|seconds| seconds.is_finite() && (0.0..=latest).contains(seconds))
            .ok_or_else(|| {
                let remedy = "write the seconds since the start of the trace, 0 or more";
                self.rows.refused(0, remedy)
            })?;
        self.any = true;
        Ok(Some(Row::of(Arrival {
            at: from_seconds(seconds),
            input_tokens: self.rows.tokens(1)?,
            output_tokens: self.rows.tokens(2)?,
        })))
    }

    fn line(&self) -> u64 {
        self.rows.line()
    }

    fn write_time(&self, text: &mut String) -> &'static str {
        text.push_str(self.rows.text(0).unwrap_or_default());
        COLUMNS[0]
    }
}
