//! The engines' metrics: a catalogue for each engine, keyed by signal.
//!
//! A catalogue is a value. It has a [`Recipe`] for every [`SignalName`], which says both how the
//! signal is queried and how the answer is read, so the two cannot differ. It refuses text: names
//! of metrics and labels are all that an engine may differ in. An engine that spells metrics
//! otherwise is another catalogue and no other code.

pub mod vllm;

use pd_core::signal::name::SignalName;

pub use self::vllm::VLLM;

/// A metric under all the names that it has had, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The names. During a rolling upgrade several are there; each series counts by the first.
    pub names: &'static [&'static str],
    /// A `(label, value)` that its series must have, if not all of them count.
    pub matcher: Option<(&'static str, &'static str)>,
}

impl Metric {
    /// The metric of these names, newest first.
    pub const fn named(names: &'static [&'static str]) -> Self {
        Self {
            names,
            matcher: None,
        }
    }

    /// Only the series with `label` at `value`.
    #[must_use]
    pub const fn with(self, label: &'static str, value: &'static str) -> Self {
        Self {
            names: self.names,
            matcher: Some((label, value)),
        }
    }
}

/// How an engine's series give one signal of a role's workers.
///
/// Gauges are of the pods that are ready now; counters and histograms are summed over all that
/// served in the window, because what a pod served before it left was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// A gauge, its mean over a short window, summed over the workers.
    GaugeSum(Metric),
    /// A gauge, its mean over a short window, averaged over the workers that have a number.
    GaugeMean(Metric),
    /// How fast a gauge grows, summed over the workers; nothing shrinks below zero.
    GaugeGrowth(Metric),
    /// How fast a gauge shrinks, summed over the workers; nothing grows below zero.
    GaugeShrinkage(Metric),
    /// The most that gauges added up to on each worker in the window, summed.
    GaugePeak(&'static [Metric]),
    /// How fast a counter grows, summed over the workers.
    CounterRate(Metric),
    /// Growth of one counter over the growth of another, of which it counts a part.
    CounterShare {
        /// The counter of the part.
        part: Metric,
        /// The counter of the whole.
        whole: Metric,
    },
    /// Variance over mean of a counter's growth in short spans.
    CounterDispersion(Metric),
    /// The product of two numbers that stand in labels of a metric without a value of its own,
    /// summed over the engines of a worker and averaged over the workers.
    LabelProduct {
        /// The metric.
        metric: Metric,
        /// The labels.
        labels: [&'static str; 2],
    },
    /// A histogram.
    Histogram(Metric),
    /// The user's own query gives it, whatever the engine.
    UserQuery,
}

impl Recipe {
    /// The metrics it takes.
    pub fn metrics(&self) -> Vec<Metric> {
        match *self {
            Self::GaugeSum(metric)
            | Self::GaugeMean(metric)
            | Self::GaugeGrowth(metric)
            | Self::GaugeShrinkage(metric)
            | Self::CounterRate(metric)
            | Self::CounterDispersion(metric)
            | Self::LabelProduct { metric, .. }
            | Self::Histogram(metric) => vec![metric],
            Self::GaugePeak(metrics) => metrics.to_vec(),
            Self::CounterShare { part, whole } => vec![part, whole],
            Self::UserQuery => Vec::new(),
        }
    }
}

/// An engine: what it is called, and its catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// As users write and read it.
    pub name: &'static str,
    /// As its makers write it.
    pub product: &'static str,
    /// The beginning of its metrics' names, which operators and pipelines change.
    pub prefix: &'static str,
    /// The versions whose names the catalogue has.
    pub versions: &'static str,
    /// A gauge that every worker has from its start to its end: its samples say who is scraped.
    pub presence: Metric,
    /// Labels beside the pod's that separate the engines of a pod, and the series of one metric. An
    /// address is none: one engine may be scraped at several.
    pub series_labels: &'static [&'static str],
    /// Label of the model, which metrics without a value of their own do not have.
    pub model_label: &'static str,
    /// A renamed metric whose name shows the engine's generation.
    pub generation: Metric,
    /// As users read it where only older names of `generation` are found.
    pub name_of_older: &'static str,
    /// As users read it where older names and the newest one are found.
    pub name_of_several: &'static str,
    /// The recipe of each signal.
    pub recipe: fn(SignalName) -> Recipe,
}

impl Engine {
    /// How `signal` is read.
    pub fn recipe(&self, signal: SignalName) -> Recipe {
        (self.recipe)(signal)
    }
}

#[cfg(test)]
mod tests {
    use pd_core::signal::name::Kind;

    use super::*;

    /// Whether answers to `recipe` are what `kind` says.
    fn fits(recipe: Recipe, kind: Kind) -> bool {
        match recipe {
            Recipe::GaugeSum(_)
            | Recipe::GaugeGrowth(_)
            | Recipe::GaugeShrinkage(_)
            | Recipe::GaugePeak(_)
            | Recipe::CounterRate(_) => kind == Kind::Sum,
            Recipe::GaugeMean(_)
            | Recipe::CounterShare { .. }
            | Recipe::CounterDispersion(_)
            | Recipe::LabelProduct { .. } => kind == Kind::Mean,
            Recipe::Histogram(_) => matches!(kind, Kind::Distribution | Kind::Attainment),
            Recipe::UserQuery => kind == Kind::UserQuery,
        }
    }

    #[test]
    fn every_recipe_gives_the_kind_of_signal_that_the_core_expects() {
        for &signal in SignalName::ALL {
            let recipe = VLLM.recipe(signal);
            assert!(fits(recipe, signal.kind()), "{signal:?}: {recipe:?}");
        }
    }
}
