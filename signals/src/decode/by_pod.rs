//! Gauges by pod, of pods that are ready and have a fresh sample.

use std::{collections::BTreeMap, time::Duration};

use pd_core::{Gap, PerRole, Reading, Role, signal::Coverage};

use super::answer::Answer;
use crate::{
    sample::Sample,
    tag::{POD, Tag},
};

/// How the newest sample of a pod stands to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    Fresh(Duration),
    Stale,
    FromTheFuture,
}

impl Freshness {
    fn of(age_seconds: f64, age_max: Duration) -> Self {
        let age_max_seconds = age_max.as_secs_f64();
        if age_seconds < -age_max_seconds {
            return Self::FromTheFuture;
        }
        match Duration::try_from_secs_f64(age_seconds.max(0.0)) {
            Ok(age) if age <= age_max => Self::Fresh(age),
            Ok(_) | Err(_) => Self::Stale,
        }
    }
}

/// Readings by pod.
pub(super) struct ByPod<'a> {
    state: &'a Answer<'a>,
    fresh: PerRole<Vec<&'a str>>,
    coverage: PerRole<Coverage>,
    /// Why there is nothing of a role without a fresh pod.
    gaps: PerRole<Gap>,
}

impl<'a> ByPod<'a> {
    pub(super) fn new(
        state: &'a Answer<'a>,
        ready: PerRole<&'a [String]>,
        age_max: Duration,
    ) -> Self {
        let (ages, seen) = (values(state, Tag::Age), values(state, Tag::Seen));
        let freshness = ready.map(|pods| {
            let scraped = pods.iter().filter_map(|pod| {
                let age_seconds = *ages.get(pod.as_str())?;
                Some((pod.as_str(), Freshness::of(age_seconds, age_max)))
            });
            scraped.collect::<Vec<_>>()
        });
        let fresh = |role: Role| {
            let of_role = freshness[role].iter();
            of_role.filter_map(|&(pod, freshness)| match freshness {
                Freshness::Fresh(age) => Some((pod, age)),
                Freshness::Stale | Freshness::FromTheFuture => None,
            })
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let was_seen = |pod: &&String| seen.contains_key(pod.as_str());
        // A failed query explains everything after it, and a wrong clock an age.
        let gap = |role: Role| match &freshness[role] {
            _ if state.failed() => Gap::QueryFailed,
            of_role if of_role.iter().any(|(_, f)| *f == Freshness::FromTheFuture) => {
                Gap::ClockSkew
            }
            of_role if !of_role.is_empty() => Gap::Stale,
            _ => Gap::Empty,
        };
        Self {
            state,
            fresh: PerRole::from_fn(|role| fresh(role).map(|(pod, _)| pod).collect()),
            coverage: PerRole::from_fn(|role| Coverage {
                scraped: count(fresh(role).count()),
                seen: count(ready[role].iter().filter(was_seen).count()),
                oldest_age: fresh(role).map(|(_, age)| age).max(),
            }),
            gaps: PerRole::from_fn(gap),
        }
    }

    pub(super) fn coverage(&self, role: Role) -> Coverage {
        self.coverage[role]
    }

    /// Why nothing is known of the role's pods.
    fn gap(&self, role: Role) -> Gap {
        if self.fresh[role].is_empty() {
            self.gaps[role]
        } else {
            Gap::Empty
        }
    }

    fn of_role(&self, tag: Tag, role: Role) -> Result<Vec<f64>, Gap> {
        let all = values(self.state, tag);
        let pods = self.fresh[role].iter();
        let values: Vec<f64> = pods.filter_map(|pod| all.get(pod).copied()).collect();
        if values.is_empty() {
            Err(self.gap(role))
        } else {
            Ok(values)
        }
    }

    /// The number of each fresh pod that has one.
    pub(super) fn numbers(&self, tag: Tag, role: Role) -> BTreeMap<&'a str, f64> {
        let all = values(self.state, tag);
        let pods = self.fresh[role].iter();
        let known = pods.filter_map(|pod| Some((*pod, Reading::of(*all.get(pod)?).known()?)));
        known.collect()
    }

    pub(super) fn sum(&self, tag: Tag, role: Role) -> Reading {
        match self.of_role(tag, role) {
            Ok(values) => Reading::of(values.iter().sum()),
            Err(gap) => Reading::Unknown(gap),
        }
    }

    /// Mean over the pods that have a number: one that idles may say NaN.
    pub(super) fn mean(&self, tag: Tag, role: Role) -> Reading {
        match self.of_role(tag, role) {
            Ok(mut values) => {
                values.retain(|value| value.is_finite());
                Reading::of(values.iter().sum::<f64>() / values.len() as f64)
            }
            Err(gap) => Reading::Unknown(gap),
        }
    }

    /// Sum of what gauges grow by; what shrinks does not grow.
    pub(super) fn growth(&self, tag: Tag, role: Role) -> Reading {
        match self.of_role(tag, role) {
            Ok(values) => Reading::of(values.iter().sum::<f64>().max(0.0)),
            Err(gap) => Reading::Unknown(gap),
        }
    }

    /// Sum of what gauges shrink by; what grows does not shrink.
    pub(super) fn shrinkage(&self, tag: Tag, role: Role) -> Reading {
        match self.of_role(tag, role) {
            Ok(values) => Reading::of((-values.iter().sum::<f64>()).max(0.0)),
            Err(gap) => Reading::Unknown(gap),
        }
    }

    /// The product of two labels of `samples`, summed over the engines of a pod, mean over the
    /// pods. A sample's value is how many engines of its pod have these labels.
    pub(super) fn label_product(
        &self,
        samples: &[&Sample],
        [one, other]: [&str; 2],
        role: Role,
    ) -> Reading {
        let mut by_pod: BTreeMap<&str, f64> = BTreeMap::new();
        for sample in samples {
            let pod = sample.label(POD);
            let number = |label: &str| sample.label(label).parse::<f64>().ok();
            if self.fresh[role].contains(&pod)
                && let Some((one, other)) = number(one).zip(number(other))
            {
                *by_pod.entry(pod).or_default() += one * other * sample.value;
            }
        }
        if by_pod.is_empty() {
            return Reading::Unknown(self.gap(role));
        }
        Reading::of(by_pod.values().sum::<f64>() / by_pod.len() as f64)
    }
}

/// The values of a part by pod; of several of a pod the last.
fn values<'a>(state: &Answer<'a>, tag: Tag) -> BTreeMap<&'a str, f64> {
    state
        .samples(tag)
        .iter()
        .map(|sample| (sample.label(POD), sample.value))
        .collect()
}
