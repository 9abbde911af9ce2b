//! Observations of a trace's requests: two more columns of our own format.
//!
//! `ttft_s` and `tpot_s` are seconds; `tpot_s` is empty for an answer of one token. The same file
//! is a trace as well, and the order of its rows is checked there.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::csv_rows::CsvRows;
use super::{TraceError, TraceFault, unpacked};
use crate::time::{Nanos, from_seconds};

const COLUMNS: &[&str] = &["timestamp_s", "ttft_s", "tpot_s"];

/// One observed request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObservationLine {
    /// When it arrived.
    pub at: Nanos,
    /// Time to first token, seconds, above 0.
    pub ttft_seconds: f64,
    /// Time per output token, seconds, above 0.
    pub tpot_seconds: Option<f64>,
}

/// The observed requests of a file.
pub struct Observations {
    path: PathBuf,
    rows: CsvRows,
    failed: bool,
}

impl std::fmt::Debug for Observations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observations").finish_non_exhaustive()
    }
}

impl Observations {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let rows = File::open(path)
            .and_then(unpacked)
            .map_err(TraceFault::from);
        let rows = rows.and_then(|text| CsvRows::open(text, path, COLUMNS));
        Ok(Self {
            rows: rows.map_err(|fault| TraceError {
                path: path.to_owned(),
                fault,
            })?,
            path: path.to_owned(),
            failed: false,
        })
    }

    fn read(&mut self) -> Result<Option<ObservationLine>, TraceFault> {
        if !self.rows.advance()? {
            return Ok(None);
        }
        let number = |column: usize| {
            let number = self
                .rows
                .text(column)
                .and_then(|text| text.parse::<f64>().ok());
            number
                .filter(|number| {
                    number.is_finite() && (*number > 0.0 || column == 0 && *number >= 0.0)
                })
                .ok_or_else(|| self.rows.refused(column, "write seconds above 0"))
        };
        let one_token = self.rows.field(2).is_empty();
        Ok(Some(ObservationLine {
            at: from_seconds(number(0)?),
            ttft_seconds: number(1)?,
            tpot_seconds: if one_token { None } else { Some(number(2)?) },
        }))
    }
}

impl Iterator for Observations {
    type Item = Result<ObservationLine, TraceError>;

    /// The next request. After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        read.transpose().map(|read| {
            read.map_err(|fault| TraceError {
                path: self.path.clone(),
                fault,
            })
        })
    }
}
