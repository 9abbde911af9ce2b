//! Numeric taints as node labels, and tolerations as required node affinity on them.
//!
//! A stock scheduler and cluster autoscalers see `Exists` where a number was meant. So each taint
//! is mirrored to a node label ([`labels`]), and each list of tolerations becomes alternatives on
//! these labels ([`constraints`]) that are multiplied into the affinity of a pod ([`lower`]): "the
//! label is absent, or its number is tolerated". Labels under [`LABEL_DOMAIN`] belong to this
//! module: what is found on them is replaced, so that lowering twice is lowering once, and lowering
//! for nothing restores what the author wrote.
//!
//! Affinity's own `Gt` takes no negative bound, and no taint is negative, so bounds end at zero.
//! Preferences, by margin and by `PreferNoSchedule`, are preferred affinity on the same labels
//! ([`prefer`]).
//!
//! The scheduler looks at affinity once, but a kubelet that starts again and the controller of
//! `DaemonSets` look again, while `NoSchedule` and a taint that must be present are about new pods
//! alone. So a pod has one alternative more ([`Constraints::unless`]): a label that its node gets
//! while the pod runs there and would not be placed there now ([`is_held`]). `NoExecute` holds
//! either way.

mod label;
mod number_set;
mod preference;
mod selector;
mod threshold;

pub use self::{
    label::{
        HOLD, LABEL_DOMAIN, NOT_A_NUMBER, changes, hold_of_daemon_set, hold_of_pod, is_mirrored,
        label, label_value, labels,
    },
    preference::{AUTHOR_SHARE, PREFERRED_MAX, PreferredTerm, prefer},
    selector::{Requirement, Term},
    threshold::Margin,
};
use super::{
    Effect, Rule,
    extension::{Accepts, ParsedTaint, compared},
    validation,
};

/// Most terms of a lowered affinity, holds aside: two for each key and effect that is compared,
/// times the author's own.
pub const TERMS_MAX: usize = 128;

/// The effects that keep pods from nodes.
const HARD: [Effect; 2] = [Effect::NoSchedule, Effect::NoExecute];

/// Sets of requirements of which one must hold.
pub type Alternatives = Vec<Vec<Requirement>>;

/// The conditions on a node's labels that tolerations make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Those of a pod that is to be placed: one of each of the alternatives.
    placing: Vec<Alternatives>,
    /// Those of them that hold for a pod that runs, too.
    running: Vec<Alternatives>,
    /// The label of the hold.
    hold: Option<String>,
}

impl Constraints {
    /// The same, but what is about new pods alone does not count on a node with the label `hold`.
    #[must_use]
    pub fn unless(mut self, hold: Option<String>) -> Self {
        self.hold = hold.filter(|_| self.running.len() < self.placing.len());
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.placing.is_empty()
    }
}

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

/// The conditions on a node's labels for a pod with these rules. Keys and effects that are not
/// compared by number are left to the scheduler.
pub fn constraints(rules: &[Rule]) -> Result<Constraints, MirrorError> {
    let mut found = Constraints::default();
    let mut done: Vec<&str> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.is_numeric) {
        if rule.must_be_present {
            found.placing.push(presence(rule)?);
        }
        if done.contains(&rule.key.as_str()) {
            continue;
        }
        done.push(&rule.key);
        for effect in &HARD {
            let Some(alternatives) = tolerance(rules, &rule.key, effect)? else {
                continue;
            };
            if *effect == Effect::NoExecute {
                found.running.push(alternatives.clone());
            }
            found.placing.push(alternatives);
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
    let Some(concerned) = compared(rules, key, effect) else {
        return Ok(None);
    };
    let label = label(key, effect).ok_or_else(|| MirrorError::Key(key.to_owned()))?;
    let mut alternatives = vec![vec![Requirement::new(&label, "DoesNotExist", &[])]];
    for rule in concerned {
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
            let value = label_value(text).into_owned();
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

/// Whether a pod with these rules that runs on a node with `taints` would not be placed there now,
/// because of numbers that are about new pods alone.
pub fn is_held(rules: &[Rule], taints: &[ParsedTaint]) -> bool {
    let is_tolerated = |taint: &ParsedTaint| rules.iter().any(|rule| rule.tolerates(taint));
    let is_compared = |parsed: &ParsedTaint| {
        let mut numeric = rules.iter().filter(|rule| rule.is_numeric);
        numeric.any(|rule| rule.concerns(&parsed.taint))
    };
    let mut soft = taints
        .iter()
        .filter(|parsed| parsed.taint.effect == Effect::NoSchedule);
    let lacks = |rule: &Rule| !taints.iter().any(|taint| rule.tolerates(taint));
    let mut required = rules.iter().filter(|rule| rule.must_be_present);
    soft.any(|taint| is_compared(taint) && !is_tolerated(taint)) || required.any(lacks)
}

/// The terms of a required node affinity with `constraints` multiplied in, in place of those of an
/// earlier call. Nothing in and out means no required affinity.
pub fn lower(
    terms: Option<&[Term]>,
    constraints: &Constraints,
) -> Result<Option<Vec<Term>>, MirrorError> {
    let authored = authored(terms);
    if constraints.is_empty() {
        return Ok(authored);
    }
    let mut lowered = Vec::new();
    let mut held = Vec::new();
    for term in authored.as_deref().unwrap_or(&[Term::default()]) {
        if authored.is_some() && term.is_empty() {
            // It matches no node, and must not begin to.
            add(&mut lowered, Term::default());
            continue;
        }
        let product = product(term, &constraints.placing)?;
        if product.is_empty() {
            return Err(MirrorError::NoNode);
        }
        for term in product {
            add(&mut lowered, term);
        }
        if lowered.len() > TERMS_MAX {
            return Err(MirrorError::TooManyTerms);
        }
        if let Some(hold) = &constraints.hold {
            let mut term = term.clone();
            term.match_expressions
                .push(Requirement::new(hold, "Exists", &[]));
            held.extend(self::product(&term, &constraints.running)?);
        }
    }
    for term in held {
        add(&mut lowered, term);
    }
    Ok(Some(lowered))
}

/// Adds a term that is not there. The author may have written one twice, and lowering again would
/// find it once.
fn add(terms: &mut Vec<Term>, term: Term) {
    if !terms.contains(&term) {
        terms.push(term);
    }
}

/// A term with one of each of the alternatives, in every combination that a node can satisfy.
fn product(term: &Term, constraints: &[Alternatives]) -> Result<Vec<Term>, MirrorError> {
    let mut product = vec![term.clone()];
    for alternatives in constraints {
        if product.len().saturating_mul(alternatives.len()) > 4 * TERMS_MAX {
            return Err(MirrorError::TooManyTerms);
        }
        product = multiplied(&product, alternatives);
    }
    Ok(product)
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
