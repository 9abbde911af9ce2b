//! Mooncake: one JSON object per line with `timestamp` (milliseconds), `input_length`,
//! `output_length` and, where known, `hash_ids`, the ids of the prompt's blocks of 512 tokens.
//!
//! Further fields are not read, and blank lines are passed over. Source: `kvcache-ai/Mooncake`,
//! `FAST25-release/traces`.

use std::io::BufRead;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::csv_rows::{TOKENS_MAX, TOKENS_REMEDY};
use super::{BLOCK_TOKENS, Row, Rows, Text, TraceFault};
use crate::engine::{Arrival, PromptBlocks};
use crate::time::from_milliseconds;

/// The fields that every line has.
pub(super) const FIELDS: &[&str] = &["timestamp", "input_length", "output_length"];

/// Longest line: a prompt of 100 million tokens has no more block ids than this holds.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A line, its numbers not yet judged.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    timestamp: Value,
    input_length: Value,
    output_length: Value,
    hash_ids: Option<Vec<u64>>,
}

/// Lines of a file in this format.
pub(super) struct Mooncake {
    text: Text,
    bytes: Vec<u8>,
    line: u64,
    timestamp: Value,
}

impl Mooncake {
    pub(super) fn new(text: Text) -> Self {
        Self {
            text,
            bytes: Vec::new(),
            line: 0,
            timestamp: Value::Null,
        }
    }

    /// Reads the next line that is not blank; false at the end.
    fn advance(&mut self) -> Result<bool, TraceFault> {
        loop {
            self.bytes.clear();
            let mut limited = std::io::Read::take(&mut self.text, LINE_BYTES_MAX as u64);
            let read = limited.read_until(b'\n', &mut self.bytes);
            if read.map_err(|source| TraceFault::BrokenOff {
                line: self.line,
                source,
            })? == 0
            {
                return Ok(false);
            }
            self.line += 1;
            if self.bytes.len() >= LINE_BYTES_MAX {
                return Err(self.malformed("it is longer than 16 MiB".to_owned()));
            }
            if !self.bytes.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn malformed(&self, reason: String) -> TraceFault {
        TraceFault::Malformed {
            line: self.line,
            form: "JSON",
            reason,
        }
    }

    fn refused(&self, column: usize, value: &Value, remedy: &'static str) -> TraceFault {
        TraceFault::Field {
            line: self.line,
            column: FIELDS.get(column).copied().unwrap_or_default(),
            value: match value {
                Value::Null => "nothing".to_owned(),
                other => other.to_string(),
            },
            remedy,
        }
    }

    fn tokens(&self, column: usize, value: &Value) -> Result<u32, TraceFault> {
        let tokens = value.as_u64().and_then(|tokens| u32::try_from(tokens).ok());
        tokens
            .filter(|tokens| *tokens <= TOKENS_MAX)
            .ok_or_else(|| self.refused(column, value, TOKENS_REMEDY))
    }
}

impl Rows for Mooncake {
    fn read(&mut self) -> Result<Option<Row>, TraceFault> {
        if !self.advance()? {
            return Ok(None);
        }
        let text = std::str::from_utf8(self.bytes.trim_ascii()).map_err(|_| {
            let line = self.line;
            TraceFault::NotText { line }
        })?;
        let text = text.trim_start_matches('\u{feff}');
        let line: Line = serde_json::from_str(text).map_err(|error| {
            // Each line is a document of its own, so its place is the column alone.
            self.malformed(error.to_string().replace(" at line 1 column", " at column"))
        })?;
        let milliseconds = line
            .timestamp
            .as_f64()
            .filter(|milliseconds| milliseconds.is_finite() && *milliseconds >= 0.0)
            .ok_or_else(|| {
                let remedy = "write the milliseconds since the start of the trace, 0 or more";
                self.refused(0, &line.timestamp, remedy)
            })?;
        let arrival = Arrival {
            at: from_milliseconds(milliseconds),
            input_tokens: self.tokens(1, &line.input_length)?,
            output_tokens: self.tokens(2, &line.output_length)?,
            prompt: line
                .hash_ids
                .map(|ids| Arc::new(PromptBlocks::new(BLOCK_TOKENS, ids))),
        };
        self.timestamp = line.timestamp;
        Ok(Some(Row::of(arrival)))
    }

    fn line(&self) -> u64 {
        self.line
    }

    fn write_time(&self, text: &mut String) -> &'static str {
        text.push_str(&self.timestamp.to_string());
        FIELDS[0]
    }
}
