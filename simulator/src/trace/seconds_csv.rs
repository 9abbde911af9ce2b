//! Our own format: CSV with `timestamp_s`, `input_tokens` and `output_tokens`.
//!
//! Times are seconds from the start of the trace. What comes first may come late, but not by more
//! than a year: such a time is one of a calendar. A column `hash_ids_512`, where there is one,
//! holds the ids of the prompt's blocks of 512 tokens, separated by spaces.

use std::sync::Arc;

use super::csv_rows::CsvRows;
use super::{BLOCK_TOKENS, Row, Rows, TraceFault};
use crate::engine::{Arrival, PromptBlocks};
use crate::time::from_seconds;

/// The columns, in the order they are read.
pub(super) const COLUMNS: &[&str] = &["timestamp_s", "input_tokens", "output_tokens"];

/// The first request comes at most so late, seconds.
const FIRST_SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// The column that may be there.
const BLOCKS: &str = "hash_ids_512";

/// Rows of a file in this format.
pub(super) struct SecondsCsv {
    rows: CsvRows,
    any: bool,
    blocks: Option<usize>,
}

impl SecondsCsv {
    pub(super) fn new(mut rows: CsvRows) -> Self {
        Self {
            blocks: rows.place_of(BLOCKS),
            rows,
            any: false,
        }
    }

    fn prompt(&self) -> Result<Option<Arc<PromptBlocks>>, TraceFault> {
        let Some(place) = self.blocks else {
            return Ok(None);
        };
        let ids = self.rows.at(place).split(|byte| *byte == b' ');
        let id = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        let ids: Option<Vec<u64>> = ids.filter(|id| !id.is_empty()).map(id).collect();
        let ids = ids.ok_or_else(|| TraceFault::Field {
            line: self.rows.line(),
            column: BLOCKS,
            value: String::from_utf8_lossy(self.rows.at(place)).into_owned(),
            remedy: "write whole numbers, separated by spaces",
        })?;
        let prompt = || Arc::new(PromptBlocks::new(BLOCK_TOKENS, ids));
        Ok((!self.rows.at(place).is_empty()).then(prompt))
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
            prompt: self.prompt()?,
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
