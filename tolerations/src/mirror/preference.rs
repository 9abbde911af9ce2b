//! The preference for nodes with much SLA margin, or with little, as preferred node affinity on
//! mirrored labels: no extender is needed for it.
//!
//! kube-scheduler adds the weights of the preferred terms that a node matches. Each threshold of
//! margin is a term of weight 1, so that the sum is the node's class: how many thresholds its
//! number passes. Classes never contradict the exact margins; nodes of one class are equal. A node
//! without the label promises nothing and gets nothing. Of several labels the classes are added.
//!
//! A rewritten `Exists` also hides from the scheduler that a pod does not tolerate a
//! `PreferNoSchedule` number. A node that the pod should not avoid for it gets more than all
//! margins together, as in Kubernetes, where such taints come first.
//!
//! Karpenter requires the heaviest preferred term, and before it does without that it gives up
//! alternatives of the required affinity. So the heaviest of ours is one that every node matches:
//! Karpenter chooses pools as if there were no preference, and all nodes get the same for it.
//!
//! A term of which every condition is on labels of the mirror is taken for one of these and
//! replaced, so that writing twice is writing once. All others are the author's: they stay, come
//! first, and are not outweighed ([`AUTHOR_SHARE`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    super::{
        Effect, Rule, canonical_int64,
        extension::{Accepts, Interval, compared, numeric_keys},
        null_is_default, validation,
    },
    label::{label, label_value},
    number_set::NumberSet,
    selector::{Requirement, Term},
    threshold::{Margin, Reach, TELLING, Threshold},
};

/// Most preferred terms that are added to a pod: two labels with all their thresholds, and one that
/// every node matches. The scheduler tries each of them on every node that is left, some 500 of
/// 5,000. With more labels each gets fewer thresholds, the most telling first.
pub const PREFERRED_MAX: usize = 15;

/// A label of the mirror that no node has.
const NO_NODE_HAS: &str = "preference.taint.pdautoscaler.io/none";

/// The largest part of an author's smallest possible step that our weights make up together, as
/// 1/10. Sums of the author's weights differ by a multiple of their greatest common divisor, so no
/// order of the author's is reversed, and after the scheduler has normalized the sums a step keeps
/// at least 9/11 of its points.
pub const AUTHOR_SHARE: i64 = 10;

/// The effects whose labels show a margin.
const EFFECTS: [Effect; 3] = [
    Effect::NoSchedule,
    Effect::PreferNoSchedule,
    Effect::NoExecute,
];

/// A preferred node selector term, as Kubernetes writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferredTerm {
    /// From 1 to 100: what a node gets that matches.
    #[serde(default, deserialize_with = "null_is_default")]
    pub weight: i64,
    /// The nodes that match. An empty term says nothing.
    #[serde(default, deserialize_with = "null_is_default")]
    pub preference: Term,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl PreferredTerm {
    fn new(weight: usize, requirements: Vec<Requirement>) -> Self {
        Self {
            weight: i64::try_from(weight).unwrap_or(i64::MAX),
            preference: Term {
                match_expressions: requirements,
                ..Term::default()
            },
            unknown: BTreeMap::new(),
        }
    }

    /// Whether it is about labels of the mirror and nothing else.
    pub fn is_ours(&self) -> bool {
        let Term {
            match_expressions,
            match_fields,
            unknown,
        } = &self.preference;
        let nothing_else = match_fields.is_empty() && unknown.is_empty() && self.unknown.is_empty();
        nothing_else
            && !match_expressions.is_empty()
            && match_expressions.iter().all(Requirement::is_ours)
    }
}

/// The preferred terms of a pod with these rules: the author's, and after them those of margins in
/// place of those of an earlier call. Nothing in and out means no preferred affinity.
pub fn prefer(
    terms: Option<&[PreferredTerm]>,
    rules: &[Rule],
    margin: Margin,
) -> Option<Vec<PreferredTerm>> {
    let before = terms.unwrap_or_default();
    let authored = before.iter().filter(|term| !term.is_ours()).cloned();
    let mut all: Vec<PreferredTerm> = authored.collect();
    let had_ours = all.len() < before.len();
    all.extend(Wanted::of(rules, margin).within(budget(&all)));
    let is_bare = all.is_empty() && (terms.is_none() || had_ours);
    (!is_bare).then_some(all)
}

/// Most that our weights may add up to beside the author's; nothing if there is no limit.
fn budget(authored: &[PreferredTerm]) -> Option<usize> {
    let counts = |term: &&PreferredTerm| term.weight > 0 && !term.preference.is_empty();
    let weights = authored.iter().filter(counts).map(|term| term.weight);
    let step = weights.reduce(common_divisor)?;
    Some(usize::try_from(step / AUTHOR_SHARE).unwrap_or(0))
}

fn common_divisor(one: i64, other: i64) -> i64 {
    if other == 0 {
        one
    } else {
        common_divisor(other, one % other)
    }
}

/// Terms before it is known how many there may be.
struct Wanted {
    margin: Margin,
    /// By key: the ways in which a node has no untolerated `PreferNoSchedule` number, of which a
    /// node has one.
    unavoided: Vec<Vec<Vec<Requirement>>>,
    /// By label: its thresholds, the most telling first.
    passing: Vec<Vec<Passing>>,
}

/// The numbers of a label that pass a threshold.
struct Passing {
    threshold: Threshold,
    /// Of these lists one holds if the label's number passes.
    selected: Vec<Vec<Requirement>>,
}

impl Wanted {
    fn of(rules: &[Rule], margin: Margin) -> Self {
        let keys = numeric_keys(rules);
        let by_effect = |key| EFFECTS.iter().map(move |effect| (key, effect));
        let labels = keys.iter().copied().flat_map(by_effect);
        let passing = labels.filter_map(|(key, effect)| passing(rules, key, effect, margin));
        let passing = passing.collect();
        let unavoided = keys.iter().filter_map(|key| unavoided(rules, key));
        Self {
            margin,
            unavoided: unavoided.collect(),
            passing,
        }
    }

    /// The terms with as many thresholds of each label as there is room for.
    fn within(&self, budget: Option<usize>) -> Vec<PreferredTerm> {
        let numbers = (0..=TELLING.len()).rev();
        let mut tried = numbers.map(|count| self.with(count));
        let fits = |(sum, terms): &(usize, Vec<PreferredTerm>)| {
            terms.len() <= PREFERRED_MAX && budget.is_none_or(|budget| *sum <= budget)
        };
        tried.find(fits).map(|(_, terms)| terms).unwrap_or_default()
    }

    /// The terms with at most `count` thresholds of each label, and the most that a node gets of
    /// them. The heaviest comes first, and the strictest thresholds come before others.
    fn with(&self, count: usize) -> (usize, Vec<PreferredTerm>) {
        let mut chosen: Vec<&Passing> = Vec::new();
        for label in &self.passing {
            chosen.extend(label.iter().take(count));
        }
        let strictness = |one: &&Passing| one.threshold.strictness(self.margin);
        chosen.sort_by_key(strictness);
        let margins = chosen.len();
        if self.unavoided.is_empty() && chosen.is_empty() {
            return (0, Vec::new());
        }
        // More than all margins.
        let weight = margins + 1;
        let heaviest = 1 + if self.unavoided.is_empty() { 1 } else { weight };
        let every_node = Requirement::new(NO_NODE_HAS, "DoesNotExist", &[]);
        let every_node = std::iter::once(PreferredTerm::new(heaviest, vec![every_node]));
        let unavoided = self.unavoided.iter().flatten();
        let unavoided = unavoided.map(|one| PreferredTerm::new(weight, one.clone()));
        let selected = chosen.iter().flat_map(|one| &one.selected);
        let margin = selected.map(|one| PreferredTerm::new(1, one.clone()));
        (
            heaviest + self.unavoided.len() * weight + margins,
            every_node.chain(unavoided).chain(margin).collect(),
        )
    }
}

/// The numbers of a label that pass each threshold, the most telling first; nothing if no number of
/// it is tolerated by comparison.
fn passing(rules: &[Rule], key: &str, effect: &Effect, margin: Margin) -> Option<Vec<Passing>> {
    let concerned = rules.iter().filter(|rule| {
        rule.is_numeric && rule.key == key && (rule.effect.is_unset() || rule.effect == *effect)
    });
    let intervals: Vec<Interval> = concerned
        .filter_map(|rule| match rule.accepts {
            Accepts::Numbers(interval) if !interval.is_empty() => Some(interval),
            _ => None,
        })
        .collect();
    let reach = intervals.iter().filter_map(|one| Reach::of(*one)).max()?;
    let label = label(key, effect)?;
    let from = |least: i128| NumberSet::union(intervals.iter().map(|one| within(*one, least)));
    let tolerated = from(1);
    let mut found: Vec<(Threshold, NumberSet)> = Vec::new();
    for threshold in TELLING {
        let Some(least) = reach.margin(threshold) else {
            continue;
        };
        let numbers = match (threshold, margin) {
            (Threshold::Tolerated, _) => tolerated.clone(),
            (_, Margin::Most) => from(least),
            (_, Margin::Least) => tolerated.without(&from(least)),
        };
        let is_new = found.iter().all(|(_, known)| *known != numbers);
        if is_new && numbers != NumberSet::default() {
            found.push((threshold, numbers));
        }
    }
    let passing = |(threshold, numbers): &(Threshold, NumberSet)| Passing {
        threshold: *threshold,
        selected: numbers.selected(&label),
    };
    (!found.is_empty()).then(|| found.iter().map(passing).collect())
}

/// The ways in which a node has no `PreferNoSchedule` number that a rewritten `Exists` hides and
/// the pod does not tolerate; nothing if there is no such number.
fn unavoided(rules: &[Rule], key: &str) -> Option<Vec<Vec<Requirement>>> {
    let effect = Effect::PreferNoSchedule;
    let concerned = compared(rules, key, &effect)?;
    let label = label(key, &effect)?;
    let numbers = concerned.iter().filter_map(|rule| match rule.accepts {
        Accepts::Numbers(interval) => Some(within(interval, 1)),
        _ => None,
    });
    let numbers = NumberSet::union(numbers);
    let mut ways = vec![vec![Requirement::new(&label, "DoesNotExist", &[])]];
    ways.extend(numbers.selected(&label));
    for rule in concerned {
        let Accepts::Text(text) = &rule.accepts else {
            continue;
        };
        let is_number = canonical_int64(text).is_ok_and(|number| numbers.contains(number));
        if is_number || !validation::label_value(text).is_empty() {
            continue;
        }
        let one = vec![Requirement::new(
            &label,
            "In",
            &[label_value(text).into_owned()],
        )];
        if !ways.contains(&one) {
            ways.push(one);
        }
    }
    Some(ways)
}

/// The numbers of an interval with at least this margin.
fn within(interval: Interval, margin: i128) -> (i128, i128) {
    let less = margin - 1;
    (
        interval.least.map_or(0, |least| i128::from(least) + less),
        interval
            .most
            .map_or(i128::from(i64::MAX), |most| i128::from(most) - less),
    )
}
