//! A large answer, row by row while it arrives.
//!
//! An answer about many objects may be far larger than what one object may cost. It is never whole
//! in memory: its list of rows is cut where they end, each row is handed on, and what is left is
//! the same answer without rows, which says at the end whether they counted. A server may send
//! anything: bytes, rows, one row, and everything around the rows each have a limit.

use std::{borrow::Cow, fmt};

use reqwest::{Response, StatusCode};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use super::answer::{Body, Native, Unusable};

/// Largest body of an answer about many objects: one of a hundred workers fills 6 MiB, and a
/// query is about at most a few thousand.
const STREAM_BYTES_MAX: usize = 256 << 20;
/// Most rows of it, which keep those that take them within as much memory.
const ROWS_MAX: usize = 2_000_000;
/// Largest row: a native histogram has at most some hundred buckets.
const ROW_BYTES_MAX: usize = 1 << 20;
/// Most bytes around the rows.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// The value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowValue {
    /// A number; may be NaN or infinite.
    Number(f64),
    /// A native histogram.
    Native {
        /// Observations.
        count: f64,
        /// Their sum.
        sum: f64,
        /// Upper edge of each bucket and the observations in it, edges rising.
        buckets: Vec<(f64, f64)>,
    },
}

/// Labels of a row, in the order in which they came.
pub type RowLabels<'a> = [(Cow<'a, str>, Cow<'a, str>)];

/// Whoever takes rows. It says whether the row is one that was asked for; the answer is of no use
/// otherwise.
pub trait Rows {
    /// Takes a row.
    fn take(&mut self, labels: &RowLabels<'_>, value: RowValue) -> bool;
}

/// Hands the rows of `response` to `rows`, and gives the warnings that came with them.
pub(super) async fn read(
    mut response: Response,
    rows: &mut (impl Rows + ?Sized),
) -> Result<Vec<String>, Unusable> {
    let status = response.status();
    let mut scanner = Scanner::new(status);
    while let Some(chunk) = response.chunk().await.map_err(Unusable::Broken)? {
        scanner.feed(&chunk, rows)?;
    }
    scanner.finish()
}

/// Cuts rows out of a body.
struct Scanner {
    status: StatusCode,
    /// The body without rows.
    frame: Vec<u8>,
    /// The row that is being read.
    row: Vec<u8>,
    depth: usize,
    is_text: bool,
    is_escaped: bool,
    /// The text that was read last outside of rows, which may be a key.
    last: Vec<u8>,
    /// The keys of the objects that are open, from the outermost.
    keys: [Vec<u8>; 2],
    is_in_rows: bool,
    bytes: usize,
    rows: usize,
}

/// Depth inside the list of rows: the answer, its data, the list.
const ROWS_DEPTH: usize = 3;

impl Scanner {
    const fn new(status: StatusCode) -> Self {
        Self {
            status,
            frame: Vec::new(),
            row: Vec::new(),
            depth: 0,
            is_text: false,
            is_escaped: false,
            last: Vec::new(),
            keys: [Vec::new(), Vec::new()],
            is_in_rows: false,
            bytes: 0,
            rows: 0,
        }
    }

    fn feed(&mut self, chunk: &[u8], rows: &mut (impl Rows + ?Sized)) -> Result<(), Unusable> {
        self.bytes += chunk.len();
        if self.bytes > STREAM_BYTES_MAX {
            return Err(Unusable::TooLarge);
        }
        for byte in chunk {
            if self.is_in_rows {
                self.in_rows(*byte, rows)?;
            } else {
                self.around_rows(*byte);
            }
        }
        let is_frame_too_large = self.frame.len() > FRAME_BYTES_MAX;
        if is_frame_too_large || self.row.len() > ROW_BYTES_MAX {
            return Err(Unusable::TooLarge);
        }
        Ok(())
    }

    /// Follows texts and nesting; says whether `byte` is part of a text.
    const fn follow(&mut self, byte: u8) -> bool {
        if self.is_text {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_text = false,
                _ => {}
            }
            return true;
        }
        match byte {
            b'"' => self.is_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.is_text
    }

    fn around_rows(&mut self, byte: u8) {
        self.frame.push(byte);
        let was_text = self.is_text;
        if self.follow(byte) {
            if was_text {
                self.last.push(byte);
            } else {
                self.last.clear();
            }
            return;
        }
        match byte {
            b':' if (1..ROWS_DEPTH).contains(&self.depth) => {
                // Without the quote that ends it.
                self.last.pop();
                std::mem::swap(&mut self.keys[self.depth - 1], &mut self.last);
            }
            b'[' if self.depth == ROWS_DEPTH => {
                let [outer, inner] = &self.keys;
                self.is_in_rows = outer == b"data" && inner == b"result";
            }
            _ => {}
        }
    }

    fn in_rows(&mut self, byte: u8, rows: &mut (impl Rows + ?Sized)) -> Result<(), Unusable> {
        let was_between = self.depth == ROWS_DEPTH && !self.is_text;
        self.follow(byte);
        if !was_between {
            self.row.push(byte);
            if self.depth == ROWS_DEPTH && !self.is_text {
                self.end_row(rows)?;
            }
            return Ok(());
        }
        match byte {
            b'{' => self.row.push(byte),
            b']' => {
                self.is_in_rows = false;
                self.frame.push(byte);
            }
            b',' | b' ' | b'\n' | b'\r' | b'\t' => {}
            _ => return Err(Unusable::Unknown(self.status)),
        }
        Ok(())
    }

    fn end_row(&mut self, rows: &mut (impl Rows + ?Sized)) -> Result<(), Unusable> {
        self.rows += 1;
        if self.rows > ROWS_MAX || self.row.len() > ROW_BYTES_MAX {
            return Err(Unusable::TooLarge);
        }
        let unknown = Unusable::Unknown(self.status);
        let Ok(item) = serde_json::from_slice::<Item<'_>>(&self.row) else {
            return Err(unknown);
        };
        let value = match (item.value, item.histogram) {
            (Some((_, number)), _) => number.0.parse().ok().map(RowValue::Number),
            (None, Some((_, native))) => {
                native
                    .numbers()
                    .map(|(count, sum, buckets)| RowValue::Native {
                        count,
                        sum,
                        buckets,
                    })
            }
            (None, None) => None,
        };
        let is_taken = value.is_some_and(|value| rows.take(&item.metric.0, value));
        self.row.clear();
        if is_taken { Ok(()) } else { Err(unknown) }
    }

    /// The warnings of the whole answer.
    fn finish(self) -> Result<Vec<String>, Unusable> {
        let frame = Body::whole(self.status, self.frame);
        Ok(frame.instant()?.warnings)
    }
}

/// A row as servers write it.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    metric: Labels<'a>,
    #[serde(borrow, default)]
    value: Option<(f64, Text<'a>)>,
    #[serde(default)]
    histogram: Option<(f64, Native)>,
}

/// A text that is copied only if it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;

        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Borrowing)
    }
}

/// Labels in their order.
struct Labels<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Labels<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = Vec::with_capacity(8);
                while let Some((name, value)) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    labels.push((name.0, value.0));
                }
                Ok(Labels(labels))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests;
