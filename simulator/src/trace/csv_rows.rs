//! Rows of a CSV file by the names of its columns, for every format that is one.
//!
//! The header says where columns are, so their order is free and further ones are not read. A row
//! is as long as the header or refused. Line numbers are those of an editor: they are counted only
//! when there is a fault to tell, by reading the file once more as far as the fault.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{BUFFER_BYTES, Text, TraceFault, unpacked};

/// Tokens of one prompt or answer at most; more is a mistake of units.
pub(super) const TOKENS_MAX: u32 = 100_000_000;

/// The remedy for a field that is no number of tokens.
pub(super) const TOKENS_REMEDY: &str = "write a whole number of tokens, 0 to 100000000";

/// The rows of one file, by columns `names`.
pub(super) struct CsvRows {
    path: PathBuf,
    reader: Reader<Text>,
    names: &'static [&'static str],
    places: Vec<usize>,
    record: ByteRecord,
}

impl CsvRows {
    /// Reads the header.
    pub(super) fn open(
        text: Text,
        path: &Path,
        names: &'static [&'static str],
    ) -> Result<Self, TraceFault> {
        let mut reader = ReaderBuilder::new()
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(text);
        let header = reader
            .byte_headers()
            .map_err(|error| fault_of(error, path, 0))?;
        let places = names.iter().map(|wanted| {
            header
                .iter()
                .position(|name| is_named(name, wanted))
                .ok_or(TraceFault::MissingColumn {
                    column: wanted,
                    columns: names,
                })
        });
        Ok(Self {
            places: places.collect::<Result<_, _>>()?,
            path: path.to_owned(),
            reader,
            names,
            record: ByteRecord::new(),
        })
    }

    /// Where a column is that need not be there.
    pub(super) fn place_of(&mut self, column: &str) -> Option<usize> {
        let header = self.reader.byte_headers().ok()?;
        header.iter().position(|name| is_named(name, column))
    }

    /// The text of a further column, by its place.
    pub(super) fn at(&self, place: usize) -> &[u8] {
        self.record.get(place).unwrap_or_default().trim_ascii()
    }

    /// Reads one row; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, TraceFault> {
        // Only a fault reads the position of the row before, and a fault is rare.
        let before = self.record.position().map_or(0, csv::Position::line);
        self.reader
            .read_byte_record(&mut self.record)
            .map_err(|error| fault_of(error, &self.path, before))
    }

    /// The line of the row, from 1.
    pub(super) fn line(&self) -> u64 {
        line_at(&self.path, self.record.position())
    }

    /// The field of a column, without the spaces around it.
    pub(super) fn field(&self, column: usize) -> &[u8] {
        let place = self.places.get(column).copied();
        let field = place.and_then(|place| self.record.get(place));
        field.unwrap_or_default().trim_ascii()
    }

    /// The same as text, if it is UTF-8.
    pub(super) fn text(&self, column: usize) -> Option<&str> {
        std::str::from_utf8(self.field(column)).ok()
    }

    /// The fault of a field.
    pub(super) fn refused(&self, column: usize, remedy: &'static str) -> TraceFault {
        TraceFault::Field {
            line: self.line(),
            column: self.names.get(column).copied().unwrap_or_default(),
            value: String::from_utf8_lossy(self.field(column)).into_owned(),
            remedy,
        }
    }

    /// A number of tokens.
    pub(super) fn tokens(&self, column: usize) -> Result<u32, TraceFault> {
        self.text(column)
            .and_then(|text| text.parse().ok())
            .filter(|tokens| *tokens <= TOKENS_MAX)
            .ok_or_else(|| self.refused(column, TOKENS_REMEDY))
    }
}

/// Whether a header's field is the column `wanted`.
pub(super) fn is_named(name: &[u8], wanted: &str) -> bool {
    name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
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

fn fault_of(error: csv::Error, path: &Path, line_before: u64) -> TraceFault {
    let line = line_at(path, error.position());
    match error.into_kind() {
        csv::ErrorKind::Io(source) => TraceFault::BrokenOff {
            line: line_before,
            source,
        },
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => TraceFault::Malformed {
            line,
            form: "CSV",
            reason: format!("it has {len} fields and the header has {expected_len}"),
        },
        other => TraceFault::Malformed {
            line,
            form: "CSV",
            reason: format!("{other:?}"),
        },
    }
}

/// The fields of a header line, for telling which format it is.
pub(super) fn header_fields(line: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(line);
    let mut record = ByteRecord::new();
    match reader.read_byte_record(&mut record) {
        Ok(true) => record.iter().map(<[u8]>::to_vec).collect(),
        _ => Vec::new(),
    }
}

/// Reads the first line that is not blank, and what comes before it, `limit` bytes at most.
pub(super) fn head(text: &mut impl BufRead, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut limited = text.take(limit);
    loop {
        let from = head.len();
        let read = limited.read_until(b'\n', &mut head)?;
        let blank = head.iter().skip(from).all(u8::is_ascii_whitespace);
        if read == 0 || !blank {
            return Ok(head);
        }
    }
}
