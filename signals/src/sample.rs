//! One value of an answer with its labels, whichever client read it.

use std::collections::BTreeMap;

use crate::tag::{EDGE, NATIVE, NATIVE_BUCKET, NATIVE_COUNT, NATIVE_SUM};

/// A value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The value; may be NaN or infinite.
    pub value: f64,
}

impl Sample {
    /// A native histogram of an answer, as the samples that [`crate::decode`] reads: its count, its
    /// sum, and for each `(upper edge, observations in the bucket)` those up to the edge. The
    /// buckets rise, as servers give them.
    pub fn of_native(
        labels: &BTreeMap<String, String>,
        count: f64,
        sum: f64,
        buckets: &[(f64, f64)],
    ) -> Vec<Self> {
        let piece = |name: &str, edge: Option<f64>, value: f64| {
            let mut labels = labels.clone();
            labels.insert(NATIVE.to_owned(), name.to_owned());
            if let Some(edge) = edge {
                labels.insert(EDGE.to_owned(), edge.to_string());
            }
            Self { labels, value }
        };
        let mut samples = vec![
            piece(NATIVE_COUNT, None, count),
            piece(NATIVE_SUM, None, sum),
        ];
        let mut so_far = 0.0;
        for (edge, observations) in buckets {
            so_far += observations;
            samples.push(piece(NATIVE_BUCKET, Some(*edge), so_far));
        }
        samples
    }

    /// The value of a label, empty when it has none: as Prometheus means it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}
