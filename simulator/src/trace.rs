//! Request traces: CSV files, plain or gzip, read row by row.
//!
//! A trace has a header that names the columns `timestamp_s` (seconds from its start, not falling),
//! `input_tokens` and `output_tokens` (whole numbers); further columns are not read. A row that
//! breaks this is an error that tells its line, because a trace that is half understood gives
//! numbers that nobody can trust. Never more than a buffer of the file is in memory.

mod overlay;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder};
use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

pub use self::overlay::Overlay;
use crate::engine::Arrival;
use crate::time::from_seconds;

/// The columns a trace must have, in the order of [`Columns`].
const COLUMNS: [&str; 3] = ["timestamp_s", "input_tokens", "output_tokens"];

/// Tokens of one prompt or answer at most; more is a mistake of units.
const TOKENS_MAX: u32 = 100_000_000;

/// The first request comes at most so late, seconds; later times are those of a calendar.
const FIRST_SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// Size of the buffers for reading and for the unpacked text.
const BUFFER_BYTES: usize = 64 * 1024;

/// A trace that cannot be read.
#[derive(Debug, Error)]
#[error("trace `{}` {fault}", path.display())]
pub struct TraceError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: TraceFault,
}

/// What is wrong with a trace.
#[derive(Debug, Error)]
pub enum TraceFault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// There is no header.
    #[error(
        "is empty: its first line must name the columns `timestamp_s,input_tokens,output_tokens`"
    )]
    Empty,
    /// A column is missing.
    #[error(
        "line 1 has no column `{0}`: name the columns `timestamp_s,input_tokens,output_tokens`"
    )]
    MissingColumn(&'static str),
    /// There is a header and no row.
    #[error("has no requests: add a row after the header")]
    NoRequests,
    /// The line is no CSV record, or not as long as the header.
    #[error("line {line} cannot be read as CSV: {reason}")]
    Malformed {
        /// The line, from 1.
        line: u64,
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
        /// What stands there.
        value: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// The time is before that of the row before.
    #[error(
        "line {line} has `timestamp_s` `{value}`, before the `{before}` of the line above: sort the rows by time"
    )]
    Unsorted {
        /// The line, from 1.
        line: u64,
        /// Its time, seconds.
        value: f64,
        /// The time of the row before, seconds.
        before: f64,
    },
}

/// Where the columns are.
#[derive(Clone, Copy, Debug)]
struct Columns {
    places: [usize; 3],
}

/// The requests of one file, in order of arrival.
pub struct Trace {
    path: PathBuf,
    reader: Reader<Box<dyn Read + Send>>,
    columns: Columns,
    record: ByteRecord,
    before_seconds: Option<f64>,
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
    /// Opens the file and reads its header. Gzip is told by its first bytes, not by the name.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let failed = |fault| TraceError {
            path: path.to_owned(),
            fault,
        };
        let file = File::open(path).map_err(|error| failed(error.into()))?;
        let text = unpacked(file).map_err(|error| failed(error.into()))?;
        let mut reader = ReaderBuilder::new()
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(text);
        let columns = columns(&mut reader, path).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            columns,
            record: ByteRecord::new(),
            before_seconds: None,
            failed: false,
        })
    }

    /// Reads one row; nothing at the end.
    fn read(&mut self) -> Result<Option<Arrival>, TraceFault> {
        let read = self.reader.read_byte_record(&mut self.record);
        if !read.map_err(|error| fault_of(error, &self.path))? {
            return match self.before_seconds {
                None => Err(TraceFault::NoRequests),
                Some(_) => Ok(None),
            };
        }
        let seconds = self.seconds()?;
        let arrival = Arrival {
            at: from_seconds(seconds),
            input_tokens: self.tokens(1)?,
            output_tokens: self.tokens(2)?,
            prompt: None,
        };
        self.before_seconds = Some(seconds);
        Ok(Some(arrival))
    }

    fn line(&self) -> u64 {
        line_at(&self.path, self.record.position())
    }

    /// The field of a column, without the spaces around it.
    fn field(&self, column: usize) -> &[u8] {
        let place = self.columns.places.get(column).copied();
        let field = place.and_then(|place| self.record.get(place));
        field.unwrap_or_default().trim_ascii()
    }

    fn refused(&self, column: usize, remedy: &'static str) -> TraceFault {
        TraceFault::Field {
            line: self.line(),
            column: COLUMNS.get(column).copied().unwrap_or_default(),
            value: String::from_utf8_lossy(self.field(column)).into_owned(),
            remedy,
        }
    }

    fn seconds(&self) -> Result<f64, TraceFault> {
        let remedy = "write the seconds since the start of the trace, 0 or more";
        let text = std::str::from_utf8(self.field(0)).ok();
        let seconds = text
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
            .ok_or_else(|| self.refused(0, remedy))?;
        match self.before_seconds {
            Some(before) if seconds < before => Err(TraceFault::Unsorted {
                line: self.line(),
                value: seconds,
                before,
            }),
            None if seconds > FIRST_SECONDS_MAX => Err(self.refused(0, remedy)),
            _ => Ok(seconds),
        }
    }

    fn tokens(&self, column: usize) -> Result<u32, TraceFault> {
        let text = std::str::from_utf8(self.field(column)).ok();
        text.and_then(|text| text.parse().ok())
            .filter(|tokens| *tokens <= TOKENS_MAX)
            .ok_or_else(|| self.refused(column, "write a whole number of tokens, 0 to 100000000"))
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

fn unpacked(file: File) -> io::Result<Box<dyn Read + Send>> {
    let mut packed = BufReader::with_capacity(BUFFER_BYTES, file);
    let gzip = packed.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzip {
        Box::new(MultiGzDecoder::new(packed))
    } else {
        Box::new(packed)
    })
}

fn columns(reader: &mut Reader<Box<dyn Read + Send>>, path: &Path) -> Result<Columns, TraceFault> {
    let header = reader
        .byte_headers()
        .map_err(|error| fault_of(error, path))?;
    if header.is_empty() {
        return Err(TraceFault::Empty);
    }
    let mut places = [0; 3];
    for (place, wanted) in places.iter_mut().zip(COLUMNS) {
        *place = header
            .iter()
            .position(|name| name.trim_ascii() == wanted.as_bytes())
            .ok_or(TraceFault::MissingColumn(wanted))?;
    }
    Ok(Columns { places })
}

/// The line of the record that begins at or after `position`. The reader's own count is off where
/// lines are empty or end in two characters, so the file is read once more, as far as the fault.
fn line_at(path: &Path, position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let Ok(text) = File::open(path).and_then(unpacked) else {
        return position.line();
    };
    let mut line = 1;
    let bytes = BufReader::with_capacity(BUFFER_BYTES, text).bytes();
    for (offset, byte) in (0_u64..).zip(bytes.map_while(Result::ok)) {
        let ends_line = matches!(byte, b'\n' | b'\r');
        if offset >= position.byte() && !ends_line {
            break;
        }
        line += u64::from(byte == b'\n');
    }
    line
}

fn fault_of(error: csv::Error, path: &Path) -> TraceFault {
    let line = line_at(path, error.position());
    match error.into_kind() {
        csv::ErrorKind::Io(error) => TraceFault::Unreadable(error),
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => TraceFault::Malformed {
            line,
            reason: format!("it has {len} fields and the header has {expected_len}"),
        },
        other => TraceFault::Malformed {
            line,
            reason: format!("{other:?}"),
        },
    }
}

#[cfg(test)]
mod tests;
