//! Which nodes a pod or a volume may use, by labels and names: the required half of node affinity.
//!
//! Terms are alternatives; all requirements of a term must hold. A term without requirements, and a
//! selector without terms, match nothing. `Gt` and `Lt` read both numbers as Go's `ParseInt` does,
//! so `0950` is a number here, which it is not in a toleration.
//!
//! Source: kubernetes `staging/src/k8s.io/component-helpers/scheduling/corev1/nodeaffinity`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The one field that `matchFields` knows.
const NAME_FIELD: &str = "metadata.name";

/// A node selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// Alternatives.
    #[serde(default)]
    pub node_selector_terms: Vec<Term>,
}

/// One alternative.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// Requirements on labels.
    #[serde(default)]
    pub match_expressions: Vec<Requirement>,
    /// Requirements on fields, of which Kubernetes knows `metadata.name`.
    #[serde(default)]
    pub match_fields: Vec<Requirement>,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The label or field.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With these.
    #[serde(default)]
    pub values: Vec<String>,
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values, or no label.
    NotIn,
    /// A label.
    Exists,
    /// No label.
    DoesNotExist,
    /// A number above the value.
    Gt,
    /// A number below the value.
    Lt,
}

impl NodeSelector {
    /// One of `values` of the label `key`.
    pub fn label_in(key: &str, values: impl IntoIterator<Item = String>) -> Self {
        let requirement = Requirement {
            key: key.to_owned(),
            operator: Operator::In,
            values: values.into_iter().collect(),
        };
        Self {
            node_selector_terms: vec![Term {
                match_expressions: vec![requirement],
                match_fields: Vec::new(),
            }],
        }
    }

    /// Whether a node with that name and those labels matches.
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.node_selector_terms
            .iter()
            .any(|term| term.matches(name, labels))
    }
}

impl Term {
    fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let is_empty = self.match_expressions.is_empty() && self.match_fields.is_empty();
        let label = |key: &str| labels.get(key).map(String::as_str);
        let field = |key: &str| (key == NAME_FIELD).then_some(name);
        !is_empty
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(label(&requirement.key)))
            && self
                .match_fields
                .iter()
                .all(|requirement| requirement.holds(field(&requirement.key)))
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let is_listed = |value: &str| self.values.iter().any(|listed| listed == value);
        match self.operator {
            Operator::In => value.is_some_and(is_listed),
            Operator::NotIn => !value.is_some_and(is_listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => self
                .numbers(value)
                .is_some_and(|(value, bound)| value > bound),
            Operator::Lt => self
                .numbers(value)
                .is_some_and(|(value, bound)| value < bound),
        }
    }

    /// The label's number and the bound; nothing unless both are numbers and the bound is one.
    fn numbers(&self, value: Option<&str>) -> Option<(i64, i64)> {
        let [bound] = self.values.as_slice() else {
            return None;
        };
        Some((value?.parse().ok()?, bound.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("zone", "a"), ("sla", "0950"), ("empty", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[rstest]
    #[case("zone", Operator::In, &["a", "b"], true)]
    #[case("zone", Operator::In, &["b"], false)]
    #[case("zone", Operator::In, &[], false)]
    #[case("absent", Operator::In, &["a"], false)]
    #[case("zone", Operator::NotIn, &["a"], false)]
    #[case("absent", Operator::NotIn, &["a"], true)]
    #[case("empty", Operator::Exists, &[], true)]
    #[case("absent", Operator::DoesNotExist, &[], true)]
    #[case("zone", Operator::DoesNotExist, &[], false)]
    #[case("sla", Operator::Gt, &["949"], true)]
    #[case("sla", Operator::Gt, &["950"], false)]
    #[case("sla", Operator::Lt, &["951"], true)]
    #[case("absent", Operator::Lt, &["951"], false)]
    #[case("zone", Operator::Gt, &["1"], false)]
    #[case("sla", Operator::Gt, &["high"], false)]
    #[case("sla", Operator::Gt, &["1", "2"], false)]
    fn a_requirement_compares_as_the_scheduler_does(
        #[case] key: &str,
        #[case] operator: Operator,
        #[case] values: &[&str],
        #[case] want: bool,
    ) {
        let term = Term {
            match_expressions: vec![Requirement {
                key: key.to_owned(),
                operator,
                values: values.iter().map(ToString::to_string).collect(),
            }],
            ..Term::default()
        };
        assert_eq!(term.matches("n", &labels()), want);
    }

    #[test]
    fn terms_are_alternatives_and_empty_ones_match_nothing() {
        let by_name: Term = serde_json::from_str(
            r#"{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}"#,
        )
        .unwrap();
        let other_field: Term = serde_json::from_str(
            r#"{"matchFields": [{"key": "spec.x", "operator": "In", "values": ["n"]}]}"#,
        )
        .unwrap();
        let selector = |terms: &[&Term]| NodeSelector {
            node_selector_terms: terms.iter().map(|term| (*term).clone()).collect(),
        };
        assert!(selector(&[&by_name]).matches("n", &labels()));
        assert!(!selector(&[&by_name]).matches("m", &labels()));
        assert!(!selector(&[&other_field]).matches("n", &labels()));
        assert!(!selector(&[&Term::default()]).matches("n", &labels()));
        assert!(!selector(&[]).matches("n", &labels()));
        assert!(selector(&[&other_field, &by_name]).matches("n", &labels()));
    }
}
