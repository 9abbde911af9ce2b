//! The answers about one object, as its pass takes them.

use std::time::Duration;

use pd_signals::Sample;
use tokio::time::Instant;

use super::{read::Read, shape::Kind};
use crate::prometheus::{Owner, QueryError};

/// The answers about one object.
#[derive(Debug)]
pub struct Here {
    /// Gauges and counters, and which gateways there are.
    pub state: Result<Vec<Sample>, QueryError>,
    /// Distributions over the window of rates.
    pub histograms: Result<Vec<Sample>, QueryError>,
    /// Distributions over the wide window.
    pub wide: Result<Vec<Sample>, QueryError>,
    /// Distributions over the attainment window, and when they were asked for; nothing if they were
    /// not wanted.
    pub attainment: Option<(Result<Vec<Sample>, QueryError>, Instant)>,
    /// How long ago the state was asked for.
    pub age: Duration,
    /// The server's first reason why the answers may not be whole.
    pub warning: Option<String>,
}

impl Here {
    /// The answers in `reads`, in the order of [`Kind::ALL`], the last of which may be missing.
    pub(super) fn of(reads: &[Read], now: Instant) -> Self {
        let samples = |kind: Kind| match reads.get(kind as usize) {
            Some(read) => match &read.rows {
                Ok(split) => Ok(split.samples()),
                Err(error) => Err(as_of_one(error)),
            },
            None => Err(late()),
        };
        let attainment = reads.get(Kind::Attainment as usize);
        Self {
            state: samples(Kind::State),
            histograms: samples(Kind::Histograms),
            wide: samples(Kind::Wide),
            attainment: attainment.map(|read| (samples(Kind::Attainment), read.asked_at)),
            age: reads.first().map_or(Duration::ZERO, |read| {
                now.saturating_duration_since(read.asked_at)
            }),
            warning: reads.iter().find_map(|read| read.warning.clone()),
        }
    }

    /// Nothing came in time.
    pub(super) fn late(has_attainment: bool, now: Instant) -> Self {
        Self {
            state: Err(late()),
            histograms: Err(late()),
            wide: Err(late()),
            attainment: has_attainment.then(|| (Err(late()), now)),
            age: Duration::ZERO,
            warning: None,
        }
    }
}

/// `error` of a query about many, as one of them may know it: not as a fault of its own query.
pub(super) fn as_of_one(error: &QueryError) -> QueryError {
    if error.is_query_at_fault() {
        unanswered("a query about many objects fails, of which the log has the cause")
    } else {
        error.clone()
    }
}

/// The error of an answer that did not come.
pub(super) fn late() -> QueryError {
    unanswered("the queries about many objects take too long")
}

fn unanswered(cause: &str) -> QueryError {
    QueryError::Unreachable {
        server: "--prometheus-url".to_owned(),
        owner: Owner::Operator,
        cause: cause.to_owned(),
    }
}
