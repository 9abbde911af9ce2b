//! Several copies of one trace laid over each other, to drive a larger fleet.
//!
//! Multiplying every request would multiply the bursts as well; copies that start at different
//! moments keep the shape of the day and become smoother, as more users do. A copy starts up to
//! ten minutes into the trace and plays what it skipped after the end, so that every request
//! comes once per copy. The shifts follow from the seed; the first copy has none. The users of one
//! copy are not those of another, so prompts begin alike only within a copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Trace, TraceError};
use crate::engine::Arrival;
use crate::time::{MINUTE, Nanos};

/// How far a copy is shifted at most: far beyond a burst, and little on the scale of a day.
const SHIFT_MAX: Nanos = 10 * MINUTE;

/// Purposes of the random streams, beside those of the generator.
const STREAM: u64 = 4;
const SALT_STREAM: u64 = 44;

/// One shifted copy and its next request.
#[derive(Debug)]
struct Copy {
    trace: Trace,
    shift: Nanos,
    /// The mark that makes this copy's prompts its own.
    salt: u64,
    /// Once the end was reached: what the times of the second reading are moved by.
    moved: Option<Nanos>,
    last: Nanos,
    next: Option<Arrival>,
}

/// The requests of all copies in order of arrival.
#[derive(Debug)]
pub struct Overlay {
    path: PathBuf,
    copies: Vec<Copy>,
    failed: Option<TraceError>,
}

impl Overlay {
    /// `copies` of the trace at `path`; one is the trace itself.
    pub fn open(path: &Path, copies: u32, seed: u64) -> Result<Self, TraceError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        let mut salts = ChaCha8Rng::seed_from_u64(seed);
        salts.set_stream(SALT_STREAM);
        let mut overlay = Self {
            path: path.to_owned(),
            copies: Vec::new(),
            failed: None,
        };
        for number in 0..copies.max(1) {
            let (shift, salt) = (rng.random_range(0..SHIFT_MAX), salts.random());
            let mut copy = Copy {
                trace: Trace::open(path)?,
                shift: if number == 0 { 0 } else { shift },
                salt: if number == 0 { 0 } else { salt },
                moved: None,
                last: 0,
                next: None,
            };
            copy.advance(path)?;
            overlay.copies.push(copy);
        }
        Ok(overlay)
    }

    fn earliest(&mut self) -> Option<&mut Copy> {
        let due = |copy: &&mut Copy| copy.next.is_some();
        let at = |copy: &&mut Copy| copy.next.as_ref().map(|next| next.at);
        self.copies.iter_mut().filter(due).min_by_key(at)
    }
}

impl Copy {
    /// Reads on to the next request that is this copy's.
    fn advance(&mut self, path: &Path) -> Result<(), TraceError> {
        loop {
            let Some(read) = self.trace.next() else {
                if self.moved.is_some() || self.shift == 0 {
                    self.next = None;
                    return Ok(());
                }
                self.trace = Trace::open(path)?;
                self.moved = Some(self.last.saturating_sub(self.shift));
                continue;
            };
            let arrival = read?;
            let at = match self.moved {
                None => {
                    self.last = arrival.at;
                    arrival.at.checked_sub(self.shift)
                }
                Some(moved) => (arrival.at < self.shift).then(|| arrival.at + moved),
            };
            if let Some(at) = at {
                let prompt = match arrival.prompt {
                    Some(prompt) if self.salt != 0 => Some(Arc::new(prompt.salted(self.salt))),
                    prompt => prompt,
                };
                self.next = Some(Arrival {
                    at,
                    prompt,
                    ..arrival
                });
                return Ok(());
            }
            if self.moved.is_some() {
                self.next = None;
                return Ok(());
            }
        }
    }
}

impl Iterator for Overlay {
    type Item = Result<Arrival, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.copies.clear();
            return Some(Err(error));
        }
        let path = std::mem::take(&mut self.path);
        let copy = self.earliest();
        let taken = copy.and_then(|copy| {
            let arrival = copy.next.take();
            let failed = copy.advance(&path).err();
            arrival.map(|arrival| (arrival, failed))
        });
        self.path = path;
        let (arrival, failed) = taken?;
        self.failed = failed;
        Some(Ok(arrival))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn every_copy_has_every_request_once_and_all_are_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.csv");
        let mut text = "timestamp_s,input_tokens,output_tokens\n".to_owned();
        for second in 0..1_200 {
            writeln!(text, "{second},{},5", second + 1).unwrap();
        }
        std::fs::write(&path, text).unwrap();
        let read = |seed| {
            let overlay = Overlay::open(&path, 3, seed).unwrap();
            overlay.collect::<Result<Vec<_>, _>>().unwrap()
        };
        let arrivals = read(7);
        assert!(arrivals.windows(2).all(|pair| pair[0].at <= pair[1].at));
        let mut prompts: Vec<u32> = arrivals.iter().map(|a| a.input_tokens).collect();
        prompts.sort_unstable();
        let want: Vec<u32> = (1..=1_200).flat_map(|n| [n, n, n]).collect();
        assert_eq!(prompts, want);
        assert_eq!(arrivals, read(7));
        assert_ne!(arrivals, read(8));
    }

    #[test]
    fn prompts_begin_alike_within_a_copy_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.csv");
        let rows = "0,9,5,1 2\n1,9,5,1 3\n";
        std::fs::write(
            &path,
            format!("timestamp_s,input_tokens,output_tokens,hash_ids_512\n{rows}"),
        )
        .unwrap();
        let overlay = Overlay::open(&path, 3, 7).unwrap();
        let firsts = overlay.map(|arrival| arrival.unwrap().prompt.unwrap().hashes()[0]);
        let mut firsts: Vec<u64> = firsts.collect();
        firsts.sort_unstable();
        assert_eq!(firsts.len(), 6);
        firsts.dedup();
        assert_eq!(firsts.len(), 3);
        assert_eq!(firsts[0], 1);
    }

    #[test]
    fn one_copy_is_the_trace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.csv");
        std::fs::write(
            &path,
            "timestamp_s,input_tokens,output_tokens\n1,2,3\n4,5,6\n",
        )
        .unwrap();
        let overlaid: Vec<_> = Overlay::open(&path, 1, 9).unwrap().flatten().collect();
        let plain: Vec<_> = Trace::open(&path).unwrap().flatten().collect();
        assert_eq!(overlaid, plain);
    }
}
