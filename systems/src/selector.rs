//! Label selectors: as objects state them, as `scale` writes them, and matched against labels.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Conditions on labels: a selector matches where all of them hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Option<Vec<Requirement>>);

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    label: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    NotExists,
}

impl Selector {
    /// A selector that matches nothing, for objects whose pods are not known yet. The default.
    pub const NOTHING: Self = Self(None);

    /// Labels that equal the given values.
    pub fn equal(labels: &[(&str, &str)]) -> Self {
        Self(Some(
            labels
                .iter()
                .map(|(label, value)| one_of(label, &[value]))
                .collect(),
        ))
    }

    /// This selector, and `label` one of `values`.
    #[must_use]
    pub fn and(self, label: &str, values: &[&str]) -> Self {
        Self(self.0.map(|mut requirements| {
            requirements.push(one_of(label, values));
            requirements
        }))
    }

    /// A `LabelSelector` of an object. An empty one matches everything in Kubernetes; for a
    /// workload it means that nothing is known, so that it matches nothing here.
    pub fn of(selector: &Value) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for (label, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = value.as_str().ok_or("a value of matchLabels is no text")?;
            requirements.push(one_of(label, &[value]));
        }
        for expression in selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let label = expression["key"]
                .as_str()
                .ok_or("an expression has no key")?;
            let values = expression["values"].as_array().into_iter().flatten();
            let values: Vec<String> = values
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect();
            let operator = match expression["operator"].as_str() {
                Some("In") => Operator::In(values),
                Some("NotIn") => Operator::NotIn(values),
                Some("Exists") => Operator::Exists,
                Some("DoesNotExist") => Operator::NotExists,
                other => return Err(format!("operator `{}`", other.unwrap_or_default())),
            };
            requirements.push(Requirement {
                label: label.to_owned(),
                operator,
            });
        }
        Ok(Self((!requirements.is_empty()).then_some(requirements)))
    }

    /// A selector as `scale` writes it: `a=b,c in (d,e),!f`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            // A comma inside parentheses separates values.
            let mut depth = 0_i32;
            let end = rest.find(|c: char| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                c == ',' && depth == 0
            });
            let (part, after) = end.map_or((rest, ""), |end| (&rest[..end], &rest[end + 1..]));
            requirements.push(requirement(part.trim())?);
            rest = after.trim();
        }
        Ok(Self((!requirements.is_empty()).then_some(requirements)))
    }

    /// Whether `labels` match.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.as_ref().is_some_and(|requirements| {
            requirements.iter().all(|Requirement { label, operator }| {
                let value = labels.get(label);
                match operator {
                    Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                    Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                    Operator::Exists => value.is_some(),
                    Operator::NotExists => value.is_none(),
                }
            })
        })
    }

    /// Whether it matches nothing, because nothing is known.
    pub const fn is_nothing(&self) -> bool {
        self.0.is_none()
    }
}

fn one_of(label: &str, values: &[&str]) -> Requirement {
    Requirement {
        label: label.to_owned(),
        operator: Operator::In(values.iter().map(|&value| value.to_owned()).collect()),
    }
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let of = |label: &str, operator| {
        let label = label.trim();
        let sound = !label.is_empty()
            && !label.contains(|c: char| c.is_whitespace() || "()!=,".contains(c));
        sound
            .then(|| Requirement {
                label: label.to_owned(),
                operator,
            })
            .ok_or_else(|| format!("`{part}` is no requirement"))
    };
    let set = |values: &str| -> Vec<String> {
        let values = values.trim().trim_start_matches('(').trim_end_matches(')');
        values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect()
    };
    if let Some((label, values)) = part.split_once(" notin ") {
        return of(label, Operator::NotIn(set(values)));
    }
    if let Some((label, values)) = part.split_once(" in ") {
        return of(label, Operator::In(set(values)));
    }
    if let Some((label, value)) = part.split_once("!=") {
        return of(label, Operator::NotIn(vec![value.trim().to_owned()]));
    }
    if let Some((label, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return of(label, Operator::In(vec![value.trim().to_owned()]));
    }
    match part.strip_prefix('!') {
        Some(label) => of(label, Operator::NotExists),
        None => of(part, Operator::Exists),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { label, operator }) in self.0.iter().flatten().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{label}={}", values[0])?,
                Operator::In(values) => write!(f, "{label} in ({})", values.join(","))?,
                Operator::NotIn(values) => write!(f, "{label} notin ({})", values.join(","))?,
                Operator::Exists => f.write_str(label)?,
                Operator::NotExists => write!(f, "!{label}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[rstest]
    #[case::equal("app=a", true)]
    #[case::double("app==a", true)]
    #[case::two("app=a,role=p", true)]
    #[case::another("app=b", false)]
    #[case::of_a_set("role in (d, p),app=a", true)]
    #[case::not_of_a_set("role notin (d,p)", false)]
    #[case::not("role!=d", true)]
    #[case::there("role", true)]
    #[case::not_there("!role", false)]
    #[case::lws(
        "leaderworkerset.sigs.k8s.io/name=x,leaderworkerset.sigs.k8s.io/worker-index=0",
        false
    )]
    #[case::of_nothing("", false)]
    fn a_text_matches_as_in_kubernetes(#[case] text: &str, #[case] want: bool) {
        let selector = Selector::parse(text).unwrap();
        let pod = labels(&[("app", "a"), ("role", "p")]);
        assert_eq!(selector.matches(&pod), want);
        // Written and read again it is the same.
        assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn an_unreadable_text_is_refused_and_matches_nothing_by_accident() {
        assert!(Selector::parse("a b").is_err());
        assert!(Selector::parse("=x").is_err());
    }

    #[test]
    fn an_object_states_labels_and_expressions() {
        let selector = Selector::of(&json!({"matchLabels": {"app": "a"}, "matchExpressions": [
            {"key": "role", "operator": "NotIn", "values": ["d"]},
            {"key": "old", "operator": "DoesNotExist"}]}))
        .unwrap();
        assert!(selector.matches(&labels(&[("app", "a")])));
        assert!(!selector.matches(&labels(&[("app", "a"), ("role", "d")])));
        assert!(!selector.matches(&labels(&[("app", "a"), ("old", "")])));
        assert!(
            Selector::of(&json!({"matchExpressions": [{"key": "x", "operator": "Gt"}]})).is_err()
        );
        assert!(Selector::of(&json!({})).unwrap().is_nothing());
    }
}
