//! From the answer of a query to one reading for each node, or why it says nothing.

use std::collections::BTreeMap;

use pd_runtime::prometheus::{QueryError, Sample};

use super::decide::Reading;

/// The readings of one publisher by node name.
pub(super) type Readings = BTreeMap<String, Reading>;

/// Why an answer changes nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answer has no values.
    #[error("the query gives no values")]
    Empty,
    /// No value belongs to a node.
    #[error(
        "the query gives {count} values, and label `{label}` of none is the name of a node: set nodeLabel, or use label_replace"
    )]
    Unmatched {
        /// How many values there are.
        count: usize,
        /// The label that should hold the node's name.
        label: String,
    },
}

impl AnswerError {
    /// Its word in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Query(error) => error.category(),
            Self::Empty => "empty",
            Self::Unmatched { .. } => "unmatched",
        }
    }
}

/// The readings of an answer, whose values name nodes in `label`; at least one of them must be a
/// node.
pub(super) fn usable(
    answer: Result<Vec<Sample>, QueryError>,
    label: &str,
    is_node: impl Fn(&str) -> bool,
) -> Result<Readings, AnswerError> {
    let samples = answer?;
    if samples.is_empty() {
        return Err(AnswerError::Empty);
    }
    let readings = readings(&samples, label);
    if readings.keys().any(|name| is_node(name)) {
        return Ok(readings);
    }
    Err(AnswerError::Unmatched {
        count: samples.len(),
        label: label.to_owned(),
    })
}

/// The values by node name.
fn readings(samples: &[Sample], label: &str) -> Readings {
    let mut readings = Readings::new();
    for sample in samples {
        readings
            .entry(sample.label(label).to_owned())
            .and_modify(|reading| *reading = Reading::Several)
            .or_insert(Reading::One(sample.value));
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_names_no_node_is_refused_with_the_label() {
        let sample = Sample {
            labels: BTreeMap::from([("instance".to_owned(), "a".to_owned())]),
            value: 1.0,
        };
        let refused = |answer| usable(answer, "node", |name| name == "a").unwrap_err();
        assert_eq!(refused(Ok(Vec::new())), AnswerError::Empty);
        let message = refused(Ok(vec![sample.clone()])).to_string();
        assert!(message.contains("label `node` of none"), "{message}");
        let readings = usable(Ok(vec![sample]), "instance", |name| name == "a").unwrap();
        assert_eq!(readings["a"], Reading::One(1.0));
    }

    #[test]
    fn values_are_found_by_the_label_and_two_for_a_node_are_none() {
        let sample = |node: &str, value| Sample {
            labels: BTreeMap::from([("node".to_owned(), node.to_owned())]),
            value,
        };
        let samples = [sample("a", 1.0), sample("b", 2.0), sample("b", 2.0)];
        let readings = readings(&samples, "node");
        assert_eq!(readings["a"], Reading::One(1.0));
        assert_eq!(readings["b"], Reading::Several);
    }
}
