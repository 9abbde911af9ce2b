//! Any policy that reads signals, with everything it saw and decided written to a file.
//!
//! The lines are those of the policy protocol with the decision added. The first error of the file
//! is the failure of a verdict: a recording with a hole would replay as something else.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::protocol::{ObservationLine, VERSION};
use crate::time::{MILLISECOND, Nanos};

/// A policy and its recording.
#[derive(Debug)]
pub struct Recorded {
    inner: Box<dyn Autoscaler>,
    file: BufWriter<File>,
}

impl Recorded {
    /// Records `inner` to a new file at `path`.
    pub fn create(inner: Box<dyn Autoscaler>, path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            inner,
            file: BufWriter::new(File::create(path)?),
        })
    }

    fn write(&mut self, line: &ObservationLine) -> std::io::Result<()> {
        writeln!(self.file, "{}", line.to_line()?)?;
        self.file.flush()
    }
}

impl Autoscaler for Recorded {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let verdict = self.inner.decide(observation, now);
        let line = ObservationLine {
            version: VERSION,
            time_milliseconds: i64::try_from(now / MILLISECOND).unwrap_or(i64::MAX),
            snapshot: observation.snapshot.clone(),
            replicas: Some(verdict.replicas),
        };
        let written = self.write(&line);
        let failure = written
            .err()
            .map(|error| format!("the recording cannot be written: {error}"));
        PolicyVerdict {
            failure: verdict.failure.or(failure),
            ..verdict
        }
    }

    fn reads(&self) -> Reads {
        // Unread values are not recorded, so everything is read.
        Reads::Signals
    }
}
