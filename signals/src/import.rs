//! Profiles from the texts that other tools write.
//!
//! The caller reads files, this parses: tables as CSV, sweeps by Dynamo's profiler, results of
//! `AIConfigurator`, and a short form for coefficients. Columns are found by their header, because
//! tools add columns. A text is taken whole or not at all; an error names line, column, value and
//! remedy.

pub mod aiconfigurator;
pub mod dynamo;
pub mod inline;
pub mod table;

use std::str::FromStr;

use pd_core::capacity::{
    profile::ProfileError,
    table::{DIP_TOLERATED, TableError},
};
use thiserror::Error;

/// Largest text that is parsed, bytes: a `ConfigMap` holds one mebibyte.
pub const TEXT_BYTES_MAX: usize = 4 << 20;

/// Why a text is no profile.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ImportError {
    /// Larger than any such text.
    #[error("text has {bytes} bytes: give at most {TEXT_BYTES_MAX}")]
    TooLarge {
        /// Bytes given.
        bytes: usize,
    },
    /// Nothing but a header, or not even that.
    #[error("{what} has no rows: give at least one line below the header")]
    Empty {
        /// Which text.
        what: &'static str,
    },
    /// A column that is needed is not there.
    #[error("{what} has no column `{column}`: export it again with that column")]
    Column {
        /// Which text.
        what: &'static str,
        /// The column.
        column: &'static str,
    },
    /// A column is there twice, and nobody knows which one counts.
    #[error("{what} has column `{column}` twice: leave one of them out")]
    ColumnTwice {
        /// Which text.
        what: &'static str,
        /// The column.
        column: &'static str,
    },
    /// A cell that does not hold what it should.
    #[error("line {line}, column `{column}`: `{value}` is not {wanted}")]
    Cell {
        /// Line in the text, from 1.
        line: u64,
        /// The column.
        column: String,
        /// The cell.
        value: String,
        /// The values that it may hold.
        wanted: &'static str,
    },
    /// Not a CSV text.
    #[error("line {line}: {message}")]
    Csv {
        /// Line in the text, from 1; 0 when not known.
        line: u64,
        /// The reader's message.
        message: String,
    },
    /// Two lines measure the same point.
    #[error("line {line} measures {point} again, after line {before}: leave one of them out")]
    Duplicate {
        /// The later line.
        line: u64,
        /// The earlier line.
        before: u64,
        /// The point that both measure.
        point: String,
    },
    /// A time falls where it can only rise.
    #[error(
        "line {line}, column `{column}`: `{value}` is far below the `{before}` of line {before_line}, \
         which is smaller work: measure one of them again or leave it out"
    )]
    Falls {
        /// The line that is too low.
        line: u64,
        /// The column.
        column: &'static str,
        /// Its value, in the unit of the column.
        value: f64,
        /// The larger value of smaller work.
        before: f64,
        /// The line of it.
        before_line: u64,
    },
    /// Rows for other parallelisms only.
    #[error("{what} has no rows with tensor parallelism `{wanted}`: it has {found}")]
    Parallelism {
        /// Which text.
        what: &'static str,
        /// The tensor parallelism of a replica.
        wanted: u32,
        /// The ones that are there.
        found: String,
    },
    /// A YAML text that does not parse, or lacks a field.
    #[error("{message}")]
    Yaml {
        /// The reader's message, with line and column.
        message: String,
    },
    /// A field of a YAML text that does not hold what it should.
    #[error("field `{field}` is `{value}`: {remedy}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The remedy: a value to give instead.
        remedy: &'static str,
    },
    /// The points make no table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The numbers make no profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// A CSV text, read whole, with columns by name.
#[derive(Debug)]
struct Sheet {
    what: &'static str,
    header: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

/// One row of a sheet.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    sheet: &'a Sheet,
    cells: &'a csv::StringRecord,
}

impl Sheet {
    fn parse(text: &str, what: &'static str) -> Result<Self, ImportError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ImportError::TooLarge { bytes: text.len() });
        }
        // Spreadsheets begin a text with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let malformed = |error: &csv::Error| ImportError::Csv {
            line: error.position().map_or(0, csv::Position::line),
            message: match error.kind() {
                csv::ErrorKind::UnequalLengths {
                    expected_len, len, ..
                } => {
                    format!("has {len} columns and the header {expected_len}: repair the line")
                }
                _ => "is not CSV: repair the line".to_owned(),
            },
        };
        let header = reader.headers().map_err(|error| malformed(&error))?.clone();
        let rows: Result<Vec<_>, _> = reader.records().collect();
        let rows = rows.map_err(|error| malformed(&error))?;
        if rows.is_empty() {
            return Err(ImportError::Empty { what });
        }
        Ok(Self { what, header, rows })
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|cells| Row { sheet: self, cells })
    }

    fn column(&self, column: &'static str) -> Result<usize, ImportError> {
        let what = self.what;
        let mut found = (0..self.header.len()).filter(|&at| self.header.get(at) == Some(column));
        let at = found.next().ok_or(ImportError::Column { what, column })?;
        match found.next() {
            None => Ok(at),
            Some(_) => Err(ImportError::ColumnTwice { what, column }),
        }
    }
}

impl Row<'_> {
    fn line(self) -> u64 {
        self.cells.position().map_or(0, csv::Position::line)
    }

    fn refuse(self, column: &str, value: &str, wanted: &'static str) -> ImportError {
        ImportError::Cell {
            line: self.line(),
            column: column.to_owned(),
            value: value.to_owned(),
            wanted,
        }
    }

    /// The cell as a number from `least` to `most`.
    fn number(
        self,
        column: &'static str,
        least: f64,
        most: f64,
        wanted: &'static str,
    ) -> Result<f64, ImportError> {
        let cell = self.cell(column)?;
        match f64::from_str(cell) {
            Ok(value) if value.is_finite() && (least..=most).contains(&value) => Ok(value),
            _ => Err(self.refuse(column, cell, wanted)),
        }
    }

    fn cell(&self, column: &'static str) -> Result<&str, ImportError> {
        let at = self.sheet.column(column)?;
        Ok(self.cells.get(at).unwrap_or_default())
    }
}

/// A measured time with its place: `(size of the work, seconds, line)`.
type Placed = (f64, f64, u64);

/// Refuses `points`, sorted by work, when a time lies further below the largest before it than a
/// table tolerates. `unit_seconds` is the unit of the column.
fn rising(points: &[Placed], column: &'static str, unit_seconds: f64) -> Result<(), ImportError> {
    let mut largest: Option<(f64, u64)> = None;
    for &(_, seconds, line) in points {
        if let Some((before, before_line)) = largest
            && seconds < before * (1.0 - DIP_TOLERATED)
        {
            return Err(ImportError::Falls {
                line,
                column,
                value: seconds / unit_seconds,
                before: before / unit_seconds,
                before_line,
            });
        }
        if largest.is_none_or(|(before, _)| seconds >= before) {
            largest = Some((seconds, line));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
