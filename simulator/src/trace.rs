//! Request traces as files, plain or gzip, read row by row.
//!
//! Four formats are known, and told by what stands in the first line: our own CSV, that of Azure
//! and of `BurstGPT`, and Mooncake's JSON lines. Each has a file below this one that turns a row
//! into an [`Arrival`]; what they have in common is here. A row that breaks its format is an error
//! that tells its line, because a trace that is half understood gives numbers that nobody can
//! trust, and so is one before the row above it: whoever sorts knows why it was not. Never more
//! than a buffer of the file is in memory.

mod azure;
mod burstgpt;
mod csv_rows;
mod mooncake;
mod observations;
mod overlay;
mod seconds_csv;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

use self::azure::Azure;
use self::burstgpt::BurstGpt;
use self::csv_rows::CsvRows;
use self::mooncake::Mooncake;
pub use self::observations::{ObservationLine, Observations};
pub use self::overlay::Overlay;
use self::seconds_csv::SecondsCsv;
use crate::engine::Arrival;
use crate::time::Nanos;

/// Size of the buffers for reading and for the unpacked text.
const BUFFER_BYTES: usize = 64 * 1024;

/// The first line ends within so much of the file.
const HEAD_BYTES_MAX: u64 = 1024 * 1024;

/// Tokens of a block where a trace lists the blocks of prompts.
const BLOCK_TOKENS: u32 = 512;

/// The unpacked text of a file.
type Text = Box<dyn BufRead + Send>;

/// A trace that cannot be read.
#[derive(Debug, Error)]
#[error("trace `{}` {fault}", path.display())]
pub struct TraceError {
    /// The file.
    pub path: PathBuf,
    /// The fault.
    pub fault: TraceFault,
}

/// A fault of a trace.
#[derive(Debug, Error)]
pub enum TraceFault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file cannot be read further.
    #[error(
        "cannot be read beyond line {line}: {source}; the file is damaged or cut off, fetch it again"
    )]
    BrokenOff {
        /// The last line that could be read, from 1; 0 if none.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// There is no header.
    #[error(
        "is empty: its first line must name the columns `timestamp_s,input_tokens,output_tokens`"
    )]
    Empty,
    /// The first line is of none of the formats.
    #[error(
        "line 1 is of no known format: `{line}`; name the columns `timestamp_s,input_tokens,output_tokens` (or give \
         a trace of Azure, BurstGPT or Mooncake as published)"
    )]
    UnknownFormat {
        /// The beginning of the line.
        line: String,
    },
    /// A column is missing.
    #[error("line 1 has no column `{column}`: name the columns `{}`", columns.join(","))]
    MissingColumn {
        /// The column.
        column: &'static str,
        /// All columns of the format.
        columns: &'static [&'static str],
    },
    /// There is a header and no row.
    #[error("has no requests: add a row after the header")]
    NoRequests,
    /// The line is not UTF-8.
    #[error("line {line} is not UTF-8 text: save the file as UTF-8")]
    NotText {
        /// The line, from 1.
        line: u64,
    },
    /// The line is no record, or not as long as the header.
    #[error("line {line} cannot be read as {form}: {reason}")]
    Malformed {
        /// The line, from 1.
        line: u64,
        /// `CSV` or `JSON`.
        form: &'static str,
        /// Why.
        reason: String,
    },
    /// A field is not what its column holds.
    #[error("line {line} has `{column}` `{value}`: {remedy}")]
    Field {
        /// The line, from 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// The text that stands there.
        value: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// The time is before that of the row before.
    #[error(
        "line {line} has `{column}` `{value}`, before the `{before}` of the line above: sort the rows by time"
    )]
    Unsorted {
        /// The line, from 1.
        line: u64,
        /// The column of the time.
        column: &'static str,
        /// Its time.
        value: String,
        /// The time of the row before.
        before: String,
    },
}

/// A row of any format.
struct Row {
    arrival: Arrival,
    /// The request failed before the service worked on it.
    failed: bool,
    /// Its time is before that of the first row.
    before_start: bool,
}

impl Row {
    fn of(arrival: Arrival) -> Self {
        Self {
            arrival,
            failed: false,
            before_start: false,
        }
    }
}

/// A format: what turns text into rows.
trait Rows: Send {
    /// Reads one row; nothing at the end.
    fn read(&mut self) -> Result<Option<Row>, TraceFault>;

    /// The line of the row just read, from 1.
    fn line(&self) -> u64;

    /// Adds that row's time as it is written to `text` and gives the name of its column.
    fn write_time(&self, text: &mut String) -> &'static str;
}

/// The requests of one file, in order of arrival.
pub struct Trace {
    path: PathBuf,
    rows: Box<dyn Rows>,
    before: Option<Nanos>,
    /// The time of the row before as it is written.
    before_text: String,
    /// Whether there was a request.
    any: bool,
    failed: bool,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// Opens the file and reads its header. Gzip and the format are told by the first bytes, not by
    /// the name.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let rows = File::open(path)
            .map_err(TraceFault::from)
            .and_then(|file| rows(file, path));
        let rows = rows.map_err(|fault| TraceError {
            path: path.to_owned(),
            fault,
        })?;
        Ok(Self {
            path: path.to_owned(),
            rows,
            before: None,
            before_text: String::new(),
            any: false,
            failed: false,
        })
    }

    /// Reads one request; nothing at the end.
    fn read(&mut self) -> Result<Option<Arrival>, TraceFault> {
        loop {
            let Some(row) = self.rows.read()? else {
                return if self.any {
                    Ok(None)
                } else {
                    Err(TraceFault::NoRequests)
                };
            };
            let at = row.arrival.at;
            if row.before_start || self.before.is_some_and(|before| at < before) {
                let mut value = String::new();
                return Err(TraceFault::Unsorted {
                    line: self.rows.line(),
                    column: self.rows.write_time(&mut value),
                    value,
                    before: std::mem::take(&mut self.before_text),
                });
            }
            self.before_text.clear();
            self.rows.write_time(&mut self.before_text);
            self.before = Some(at);
            if !row.failed {
                self.any = true;
                return Ok(Some(row.arrival));
            }
        }
    }
}

impl Iterator for Trace {
    type Item = Result<Arrival, TraceError>;

    /// The next request. After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.read() {
            Ok(arrival) => arrival.map(Ok),
            Err(fault) => {
                self.failed = true;
                Some(Err(TraceError {
                    path: self.path.clone(),
                    fault,
                }))
            }
        }
    }
}

fn unpacked(file: File) -> io::Result<Text> {
    let mut packed = BufReader::with_capacity(BUFFER_BYTES, file);
    let gzip = packed.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzip {
        let text = MultiGzDecoder::new(packed);
        Box::new(BufReader::with_capacity(BUFFER_BYTES, text))
    } else {
        Box::new(packed)
    })
}

/// The rows of a file, by the format that its first line is in.
fn rows(file: File, path: &Path) -> Result<Box<dyn Rows>, TraceFault> {
    let mut text = unpacked(file)?;
    let broken = |source| TraceFault::BrokenOff { line: 0, source };
    let head = csv_rows::head(&mut text, HEAD_BYTES_MAX).map_err(broken)?;
    let line = std::str::from_utf8(&head)
        .map_err(|_| TraceFault::NotText { line: 1 })?
        .trim_start_matches('\u{feff}')
        .trim();
    if line.is_empty() {
        return Err(TraceFault::Empty);
    }
    let json = line.starts_with('{');
    let columns = if json { None } else { Some(columns(line)?) };
    let text: Text = Box::new(Cursor::new(head).chain(text));
    let Some(columns) = columns else {
        return Ok(Box::new(Mooncake::new(text)));
    };
    let rows = CsvRows::open(text, path, columns)?;
    Ok(match columns {
        azure::COLUMNS => Box::new(Azure::new(rows)),
        burstgpt::COLUMNS => Box::new(BurstGpt::new(rows)),
        _ => Box::new(SecondsCsv::new(rows)),
    })
}

/// The columns of the CSV format that a header names most of.
fn columns(header: &str) -> Result<&'static [&'static str], TraceFault> {
    let fields = csv_rows::header_fields(header.as_bytes());
    let named = |columns: &[&str]| {
        let is_there = |wanted: &&&str| fields.iter().any(|name| csv_rows::is_named(name, wanted));
        columns.iter().filter(is_there).count()
    };
    let formats = [seconds_csv::COLUMNS, azure::COLUMNS, burstgpt::COLUMNS];
    let mut best = (0, seconds_csv::COLUMNS);
    for columns in formats {
        if named(columns) > best.0 {
            best = (named(columns), columns);
        }
    }
    if best.0 == 0 {
        return Err(TraceFault::UnknownFormat {
            line: header.chars().take(60).collect(),
        });
    }
    Ok(best.1)
}

#[cfg(test)]
mod tests;
