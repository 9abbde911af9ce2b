//! One read of a chunk: its queries at once, and every object's part of the answers.

use std::sync::Arc;

use futures::future::BoxFuture;
use pd_core::{PerRole, Role};
use tokio::time::Instant;

use super::shape::{Kind, Shape};
use crate::{
    grouping::{
        Grouped, Names, Part,
        split::{Directory, Split, Splitter},
    },
    prometheus::{QueryError, RowLabels, RowValue, Rows},
};

/// Whoever sends queries to the server that is polled.
pub trait Reader: Sync {
    /// Hands the rows of the answer to `query`, which errors call `name`, to `rows`, and gives the
    /// server's reasons why they may not be whole.
    fn read<'a>(
        &'a self,
        name: &'static str,
        query: &'a str,
        rows: &'a mut Splitter<'_>,
    ) -> BoxFuture<'a, Result<Vec<String>, QueryError>>;
}

impl Rows for Splitter<'_> {
    fn take(&mut self, labels: &RowLabels<'_>, value: RowValue) -> bool {
        let taken = match value {
            RowValue::Number(number) => self.add(labels, number),
            RowValue::Native {
                count,
                sum,
                buckets,
            } => self.add_native(labels, (count, sum), &buckets),
        };
        taken.is_ok()
    }
}

/// An object as answers name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// The workload of each role, as [`crate::grouping::workload`] writes it.
    pub keys: PerRole<String>,
}

/// The part of an object in one answer.
#[derive(Clone, Debug)]
pub struct Read {
    /// When it was asked for: it knows nothing later.
    pub asked_at: Instant,
    /// The object's rows, or why there are none.
    pub rows: Result<Split, QueryError>,
    /// The server's first reason why they may not be whole.
    pub warning: Option<String>,
    /// Whether there are none because the object has too many, which harms no other.
    pub is_own_fault: bool,
}

impl Read {
    /// Whether there is no answer, or none that is whole.
    pub const fn is_troubled(&self) -> bool {
        self.rows.is_err() || self.warning.is_some()
    }

    /// Whether fewer objects might be answered for: the answer is too large, or the query is
    /// refused.
    pub fn is_refused(&self) -> bool {
        self.rows.as_ref().is_err_and(QueryError::is_query_at_fault)
    }
}

/// How the reads of a chunk went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Queries that were sent.
    pub(super) queries: usize,
    /// Whether one is at fault.
    pub(super) is_refused: bool,
    /// Whether an answer is missing or not whole, which may be the server's fault or an object's.
    pub(super) is_doubtful: bool,
}

impl Faults {
    /// Counts one query, of which each object has a part that is as `read` is.
    pub(super) fn add(&mut self, read: &Read) {
        self.queries += 1;
        self.is_refused |= read.is_refused() && !read.is_own_fault;
        self.is_doubtful |= read.warning.is_some() || (read.rows.is_err() && !read.is_refused());
    }
}

/// Objects to be read at once.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Their queries.
    pub shape: &'a Shape,
    /// The objects.
    pub places: &'a [&'a Place],
    /// Whether they are some of their namespaces, which have to be named.
    pub is_named: bool,
    /// Namespaces of what serves every namespace.
    pub homes: &'a [String],
    /// Labels of namespace and pod.
    pub labels: (&'a str, &'a str),
}

impl Asked<'_> {
    /// Reads `kind`, for each object in its order. The rows count only if the answer is whole.
    pub async fn read(&self, reader: &impl Reader, kind: Kind) -> Vec<Read> {
        let mut directory = Directory::with_homes(self.homes);
        for place in self.places {
            let keys = PerRole::from_fn(|role: Role| place.keys[role].as_str());
            directory.add(&place.namespace, keys);
        }
        let (grouped, parts) = self.shape.query(kind);
        let keys = self.named();
        let query = Query {
            name: kind.name(),
            grouped,
            parts,
            directory: &directory,
            homes: self.homes,
            named: (&keys, &[]),
            labels: self.labels,
        };
        query.read(reader).await
    }

    /// The workloads, where they have to be named.
    fn named(&self) -> Vec<&str> {
        let places = self.places.iter().filter(|_| self.is_named);
        let keys = places.flat_map(|place| {
            let PerRole { prefill, decode } = &place.keys;
            [prefill.as_str(), decode.as_str()]
        });
        keys.collect()
    }
}

/// A query about the objects of a directory.
#[derive(Debug)]
pub(super) struct Query<'a> {
    /// As errors name it.
    pub(super) name: &'static str,
    pub(super) grouped: &'a Grouped,
    pub(super) parts: Arc<[Part]>,
    pub(super) directory: &'a Directory,
    pub(super) homes: &'a [String],
    /// Workloads and models, where they have to be named.
    pub(super) named: (&'a [&'a str], &'a [&'a str]),
    pub(super) labels: (&'a str, &'a str),
}

impl Query<'_> {
    /// Sends it, and gives each object its part.
    pub(super) async fn read(self, reader: &impl Reader) -> Vec<Read> {
        let asked_at = Instant::now();
        let all = |error: QueryError| {
            let read = Read {
                asked_at,
                rows: Err(error),
                warning: None,
                is_own_fault: false,
            };
            vec![read; self.directory.len()]
        };
        let text = self.grouped.text(&Names {
            namespaces: &self.directory.namespaces(),
            homes: self.homes,
            keys: self.named.0,
            models: self.named.1,
        });
        let Some(text) = text else {
            return all(not_a_vector(
                self.name,
                "a name that is none of Kubernetes's",
            ));
        };
        let mut splitter = Splitter::new(self.directory, self.parts, self.labels);
        let warnings = match reader.read(self.name, &text, &mut splitter).await {
            Ok(warnings) => warnings,
            // One of the objects may be the cause, and not the server.
            Err(_) if splitter.has_too_many() => {
                return all(not_a_vector(self.name, "more labels than objects may have"));
            }
            Err(error) => return all(error),
        };
        let warning = warnings.into_iter().next();
        let splits = splitter.finish().into_iter();
        let read = |rows: Split| Read {
            asked_at,
            warning: warning.clone(),
            is_own_fault: rows.is_overfull(),
            rows: if rows.is_overfull() {
                Err(not_a_vector(self.name, "more rows than an object may have"))
            } else {
                Ok(rows)
            },
        };
        splits.map(read).collect()
    }
}

fn not_a_vector(name: &str, got: &'static str) -> QueryError {
    QueryError::NotAVector {
        query: name.to_owned(),
        got,
    }
}
