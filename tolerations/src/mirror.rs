//! Numeric taints as node labels, and tolerations as required node affinity on them.
//!
//! A stock scheduler and cluster autoscalers see `Exists` where a number was meant. So each taint
//! is mirrored to a node label ([`labels`]), and each list of tolerations becomes alternatives on
//! these labels ([`constraints`]) that are multiplied into the affinity of a pod ([`lower`]): "the
//! label is absent, or its number is tolerated". Labels under [`LABEL_DOMAIN`] belong to this
//! module: what is found on them is replaced, so that lowering twice is lowering once, and lowering
//! for nothing restores what the author wrote.
//!
//! A label says what its taint says, but for numbers with leading zeros: affinity's own `Gt` takes
//! them, tolerations do not, so their label is [`NOT_A_NUMBER`]. Affinity's `Gt` takes no negative
//! bound, and no taint is negative, so bounds end at zero. Preferences (`PreferNoSchedule`) stay
//! with the scheduler's score. Affinity is not looked at again once a pod runs: eviction is
//! somebody else's work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Effect, Rule, Taint, canonical_int64, extension::Accepts, null_is_default, validation,
};

/// End of the prefix of every mirrored label.
pub const LABEL_DOMAIN: &str = "taint.pdautoscaler.io";

/// Label of a taint whose value is a number to affinity and none to tolerations, such as `0950`.
pub const NOT_A_NUMBER: &str = "NaN";

/// Most terms of a lowered affinity: two for each key and effect that is compared, times the
/// author's own.
pub const TERMS_MAX: usize = 128;

/// The effects that keep pods from nodes.
const HARD: [Effect; 2] = [Effect::NoSchedule, Effect::NoExecute];

/// One condition on a node's label or field, as Kubernetes writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The label or field.
    #[serde(default)]
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`.
    #[serde(default)]
    pub operator: String,
    /// The values that the operator compares with.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub values: Vec<String>,
}

/// A node selector term: all its requirements must hold. An empty term matches no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// Requirements on labels.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub match_expressions: Vec<Requirement>,
    /// Requirements on fields.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub match_fields: Vec<Requirement>,
}

/// Sets of requirements of which one must hold.
pub type Alternatives = Vec<Vec<Requirement>>;

/// Why tolerations have no affinity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// The key is too long to be mirrored, or none.
    #[error(
        "key `{0}` cannot be mirrored to a node label: use a key whose prefix is at most 210 bytes"
    )]
    Key(String),
    /// Too many combinations.
    #[error(
        "its node affinity would have more than {TERMS_MAX} terms: name the effect of each numeric toleration, or use fewer keys or affinity terms"
    )]
    TooManyTerms,
    /// Nothing satisfies them.
    #[error(
        "no node can satisfy its numeric tolerations: widen the bounds, or leave out mustBePresent"
    )]
    NoNode,
}

impl Requirement {
    fn new(key: &str, operator: &str, values: &[String]) -> Self {
        Self {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.to_vec(),
        }
    }

    /// Whether it is on a mirrored label.
    fn is_ours(&self) -> bool {
        is_mirrored(&self.key)
    }

    fn is_absence(&self) -> bool {
        self.operator == "DoesNotExist"
    }
}

impl Term {
    fn is_empty(&self) -> bool {
        self.match_expressions.is_empty() && self.match_fields.is_empty()
    }

    /// Whether a label must be absent and have a value at once.
    fn contradicts_itself(&self) -> bool {
        let ours = || self.match_expressions.iter().filter(|one| one.is_ours());
        ours()
            .filter(|one| one.is_absence())
            .any(|absent| ours().any(|other| other.key == absent.key && !other.is_absence()))
    }
}

/// The label of taints with `key` and `effect`, such as
/// `node.kubernetes.io.no-execute.taint.pdautoscaler.io/sla`. Nothing for a key that has no room
/// for it, or an effect that Kubernetes does not know.
pub fn label(key: &str, effect: &Effect) -> Option<String> {
    let effect = match effect {
        Effect::NoSchedule => "no-schedule",
        Effect::PreferNoSchedule => "prefer-no-schedule",
        Effect::NoExecute => "no-execute",
        Effect::Unset | Effect::Other(_) => return None,
    };
    let label = match key.split_once('/') {
        Some((prefix, name)) => format!("{prefix}.{effect}.{LABEL_DOMAIN}/{name}"),
        None => format!("{effect}.{LABEL_DOMAIN}/{key}"),
    };
    validation::label_key(&label).is_empty().then_some(label)
}

/// The label's value for a taint's value.
pub fn label_value(taint_value: &str) -> &str {
    if canonical_int64(taint_value).is_err() && taint_value.parse::<i64>().is_ok() {
        NOT_A_NUMBER
    } else {
        taint_value
    }
}

/// Whether a label belongs to the mirror, by its key.
pub fn is_mirrored(label: &str) -> bool {
    let prefix = label.split_once('/').map_or("", |(prefix, _)| prefix);
    let rest = prefix.strip_suffix(LABEL_DOMAIN);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The changes of a node's `labels` that make them mirror its `taints`: values to set, and nothing
/// for labels to remove. Empty if they do already; a label that does not belong to the mirror is
/// never named.
pub fn changes(
    labels: &BTreeMap<String, String>,
    taints: &[Taint],
) -> BTreeMap<String, Option<String>> {
    let due = self::labels(taints);
    let stale = labels
        .keys()
        .filter(|label| is_mirrored(label) && !due.contains_key(*label))
        .map(|label| (label.clone(), None));
    let wrong = due
        .iter()
        .filter(|(label, value)| labels.get(*label) != Some(value))
        .map(|(label, value)| (label.clone(), Some(value.clone())));
    stale.chain(wrong).collect()
}

/// The labels that mirror `taints`.
pub fn labels(taints: &[Taint]) -> BTreeMap<String, String> {
    let label_of = |taint: &Taint| {
        let label = label(&taint.key, &taint.effect)?;
        Some((label, label_value(&taint.value).to_owned()))
    };
    taints.iter().filter_map(label_of).collect()
}

/// The conditions on a node's labels for a pod with these rules: one of each of the alternatives.
/// Keys and effects that are not compared by number are left to the scheduler.
pub fn constraints(rules: &[Rule]) -> Result<Vec<Alternatives>, MirrorError> {
    let mut found = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.is_numeric) {
        if rule.must_be_present {
            found.push(presence(rule)?);
        }
        if done.contains(&rule.key.as_str()) {
            continue;
        }
        done.push(&rule.key);
        for effect in &HARD {
            found.extend(tolerance(rules, &rule.key, effect)?);
        }
    }
    Ok(found)
}

/// Absent, or tolerated by one of the rules.
fn tolerance(
    rules: &[Rule],
    key: &str,
    effect: &Effect,
) -> Result<Option<Alternatives>, MirrorError> {
    let concerned = || {
        rules.iter().filter(|rule| {
            (rule.effect.is_unset() || rule.effect == *effect)
                && (rule.key.is_empty() || rule.key == key)
        })
    };
    let is_compared = concerned().any(|rule| rule.is_numeric);
    if !is_compared || concerned().any(|rule| rule.accepts == Accepts::Any) {
        return Ok(None);
    }
    let label = label(key, effect).ok_or_else(|| MirrorError::Key(key.to_owned()))?;
    let mut alternatives = vec![vec![Requirement::new(&label, "DoesNotExist", &[])]];
    for rule in concerned() {
        for alternative in accepted(&label, &rule.accepts) {
            if !alternatives.contains(&alternative) {
                alternatives.push(alternative);
            }
        }
    }
    Ok(Some(alternatives))
}

/// Present with a number that the rule accepts, under any effect that it concerns.
fn presence(rule: &Rule) -> Result<Alternatives, MirrorError> {
    let effects = [
        Effect::NoSchedule,
        Effect::PreferNoSchedule,
        Effect::NoExecute,
    ];
    let mut alternatives = Vec::new();
    for effect in effects {
        if rule.effect.is_unset() || rule.effect == effect {
            let label =
                label(&rule.key, &effect).ok_or_else(|| MirrorError::Key(rule.key.clone()))?;
            alternatives.extend(accepted(&label, &rule.accepts));
        }
    }
    Ok(alternatives)
}

/// The ways in which a label's value is accepted.
fn accepted(label: &str, accepts: &Accepts) -> Alternatives {
    let number =
        |operator: &str, bound: i64| Requirement::new(label, operator, &[bound.to_string()]);
    let interval = match accepts {
        Accepts::Any => return vec![vec![Requirement::new(label, "Exists", &[])]],
        // No taint has a value that is no label value.
        Accepts::Text(text) if !validation::label_value(text).is_empty() => return Vec::new(),
        Accepts::Text(text) => {
            let value = label_value(text).to_owned();
            return vec![vec![Requirement::new(label, "In", &[value])]];
        }
        Accepts::Nothing => return Vec::new(),
        Accepts::Numbers(interval) => interval,
    };
    if interval.is_empty() || interval.most.is_some_and(|most| most < 0) {
        return Vec::new();
    }
    let above = interval
        .least
        .filter(|least| *least > 0)
        .map(|least| number("Gt", least - 1));
    let below = interval
        .most
        .and_then(|most| most.checked_add(1))
        .map(|end| number("Lt", end));
    if above.is_none() && below.is_none() {
        // Any number: none is below zero.
        return vec![vec![number("In", 0)], vec![number("Gt", 0)]];
    }
    vec![above.into_iter().chain(below).collect()]
}

/// The terms of a required node affinity with `constraints` multiplied in, in place of those of an
/// earlier call. Nothing in and out means no required affinity.
pub fn lower(
    terms: Option<&[Term]>,
    constraints: &[Alternatives],
) -> Result<Option<Vec<Term>>, MirrorError> {
    let authored = authored(terms);
    if constraints.is_empty() {
        return Ok(authored);
    }
    let mut lowered = Vec::new();
    for term in authored.as_deref().unwrap_or(&[Term::default()]) {
        if authored.is_some() && term.is_empty() {
            // It matches no node, and must not begin to.
            lowered.push(Term::default());
            continue;
        }
        let mut product = vec![term.clone()];
        for alternatives in constraints {
            if product.len().saturating_mul(alternatives.len()) > 4 * TERMS_MAX {
                return Err(MirrorError::TooManyTerms);
            }
            product = multiplied(&product, alternatives);
        }
        if product.is_empty() {
            return Err(MirrorError::NoNode);
        }
        lowered.append(&mut product);
        if lowered.len() > TERMS_MAX {
            return Err(MirrorError::TooManyTerms);
        }
    }
    Ok(Some(lowered))
}

/// Every term with every alternative, without those that no node satisfies.
fn multiplied(terms: &[Term], alternatives: &Alternatives) -> Vec<Term> {
    let mut product = Vec::with_capacity(terms.len() * alternatives.len());
    for term in terms {
        for alternative in alternatives {
            let mut term = term.clone();
            for requirement in alternative {
                if !term.match_expressions.contains(requirement) {
                    term.match_expressions.push(requirement.clone());
                }
            }
            if !term.contradicts_itself() && !product.contains(&term) {
                product.push(term);
            }
        }
    }
    product
}

/// The terms without the requirements on mirrored labels.
fn authored(terms: Option<&[Term]>) -> Option<Vec<Term>> {
    let terms = terms?;
    let mut left: Vec<Term> = Vec::with_capacity(terms.len());
    for term in terms {
        let mut kept = term.clone();
        kept.match_expressions.retain(|one| !one.is_ours());
        let was_lowered = kept.match_expressions.len() < term.match_expressions.len();
        if was_lowered && kept.is_empty() {
            // One alternative without a condition of the author's: there was no affinity.
            return None;
        }
        if !(was_lowered && left.contains(&kept)) {
            left.push(kept);
        }
    }
    Some(left)
}
