//! `BurstGPT`: CSV with `Timestamp`, `Request tokens` and `Response tokens` among its columns.
//!
//! Times are seconds from the start of the trace. A request without response tokens failed before
//! the service worked on it, so it is left out, as in the publisher's files without failures.
//! Source: `HPMLL/BurstGPT`, its README.

use super::csv_rows::CsvRows;
use super::{Row, Rows, TraceFault};
use crate::engine::Arrival;
use crate::time::from_seconds;

/// The columns, in the order they are read.
pub(super) const COLUMNS: &[&str] = &["Timestamp", "Request tokens", "Response tokens"];

/// Rows of a file in this format.
pub(super) struct BurstGpt {
    rows: CsvRows,
}

impl BurstGpt {
    pub(super) fn new(rows: CsvRows) -> Self {
        Self { rows }
    }
}

impl Rows for BurstGpt {
    fn read(&mut self) -> Result<Option<Row>, TraceFault> {
        if !self.rows.advance()? {
            return Ok(None);
        }
        let seconds = self.rows.text(0).and_then(|text| text.parse::<f64>().ok());
        let seconds = seconds
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
            .ok_or_else(|| {
                let remedy = "write the seconds since the start of the trace, 0 or more";
                self.rows.refused(0, remedy)
            })?;
        let arrival = Arrival {
            at: from_seconds(seconds),
            input_tokens: self.rows.tokens(1)?,
            output_tokens: self.rows.tokens(2)?,
            prompt: None,
        };
        let failed = arrival.output_tokens == 0;
        Ok(Some(Row {
            failed,
            ..Row::of(arrival)
        }))
    }

    fn line(&self) -> u64 {
        self.rows.line()
    }

    fn write_time(&self, text: &mut String) -> &'static str {
        text.push_str(self.rows.text(0).unwrap_or_default());
        COLUMNS[0]
    }
}
