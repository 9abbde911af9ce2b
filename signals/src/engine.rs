//! The engines' metrics: a catalogue for each engine, keyed by signal.
//!
//! A catalogue is a value. It has a [`Recipe`] for every [`SignalName`], which says both how the
//! signal is queried and how the answer is read, so the two cannot differ. It refuses text: names
//! of metrics and labels are all that an engine may differ in. An engine that spells metrics
//! otherwise is another catalogue and no other code.

pub mod sglang;
pub mod tensorrt_llm;
pub mod vllm;

use pd_core::{Role, signal::name::SignalName};

pub use self::{sglang::SGLANG, tensorrt_llm::TENSORRT_LLM, vllm::VLLM};

/// Every engine, in the order in which they are tried.
pub static ENGINES: [&Engine; 3] = [&VLLM, &SGLANG, &TENSORRT_LLM];

/// A metric under all the names that it has had, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The names. During a rolling upgrade several are there; each series counts by the first.
    pub names: &'static [&'static str],
    /// A `(label, value)` that its series must have, if not all of them count. An empty value is
    /// that of series without the label.
    pub matcher: Option<(&'static str, &'static str)>,
    /// The metric that counts for a worker without this one.
    pub instead: Option<&'static Self>,
    /// Whether it is of another program in the worker's pod, which names the model otherwise.
    pub foreign: bool,
}

impl Metric {
    /// The metric of these names, newest first.
    pub const fn named(names: &'static [&'static str]) -> Self {
        Self {
            names,
            matcher: None,
            instead: None,
            foreign: false,
        }
    }

    /// The same, of another program in the worker's pod.
    #[must_use]
    pub const fn foreign(self) -> Self {
        Self {
            foreign: true,
            ..self
        }
    }

    /// Only the series with `label` at `value`.
    #[must_use]
    pub const fn with(self, label: &'static str, value: &'static str) -> Self {
        Self {
            matcher: Some((label, value)),
            ..self
        }
    }

    /// With `other` for workers that do not have this one.
    #[must_use]
    pub const fn or(self, other: &'static Self) -> Self {
        Self {
            instead: Some(other),
            ..self
        }
    }

    /// It, and those that count instead of it, the first first.
    pub fn choices(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(*self), |metric| metric.instead.copied())
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
    /// Gauges that add up, their means over a short window, summed over the workers. A worker may
    /// lack some of them.
    GaugesSum(&'static [Metric]),
    /// A gauge, its mean over a short window, averaged over the workers that have a number.
    GaugeMean(Metric),
    /// A gauge, summed over the engines of a worker and averaged over the workers.
    WorkerMean(Metric),
    /// The product of two gauges of an engine, summed over the engines of a worker and averaged
    /// over the workers.
    GaugeProduct([Metric; 2]),
    /// How fast a gauge grows, summed over the workers; nothing shrinks below zero.
    GaugeGrowth(Metric),
    /// How fast a gauge shrinks, summed over the workers; nothing grows below zero.
    GaugeShrinkage(Metric),
    /// The most that gauges added up to on each worker in the window, summed.
    GaugePeak(&'static [Metric]),
    /// How fast a counter grows, summed over the workers.
    CounterRate(Metric),
    /// Growth of counters over the growth of another, of which each counts a part. A worker may
    /// lack some of them.
    CounterShare {
        /// The counters of the parts, which do not overlap.
        parts: &'static [Metric],
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
    /// A histogram that the workers of the other role publish for both.
    HistogramAt(Role, Metric),
    /// A histogram of tokens per request or, where there is none, their mean by two counters.
    Lengths {
        /// The histogram, if the engine ever has it.
        histogram: Option<Metric>,
        /// Counter of the tokens.
        tokens: Metric,
        /// Counter of the requests that they belong to.
        requests: Metric,
    },
    /// The engine does not publish it.
    Absent,
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
            | Self::WorkerMean(metric)
            | Self::LabelProduct { metric, .. }
            | Self::HistogramAt(_, metric)
            | Self::Histogram(metric) => vec![metric],
            Self::GaugesSum(metrics) | Self::GaugePeak(metrics) => metrics.to_vec(),
            Self::GaugeProduct(metrics) => metrics.to_vec(),
            Self::CounterShare { parts, whole } => parts.iter().copied().chain([whole]).collect(),
            Self::Lengths {
                histogram,
                tokens,
                requests,
            } => histogram.into_iter().chain([tokens, requests]).collect(),
            Self::Absent | Self::UserQuery => Vec::new(),
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
    /// The sources that the names were compared with.
    pub checked: &'static str,
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

    /// The engine of that name, as users write it or with the generation that they read.
    pub fn named(name: &str) -> Option<&'static Self> {
        let is_it = |engine: &&&'static Self| {
            [engine.name, engine.name_of_older, engine.name_of_several].contains(&name)
        };
        ENGINES.iter().find(is_it).copied()
    }

    /// `name` of a metric without the beginning that engines of this kind usually have.
    pub fn plain<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.prefix).unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use pd_core::signal::name::Kind;

    use super::*;

    /// Whether answers to `recipe` are what `kind` says.
    fn fits(recipe: Recipe, kind: Kind) -> bool {
        match recipe {
            Recipe::Absent => kind != Kind::UserQuery,
            Recipe::GaugeSum(_)
            | Recipe::GaugesSum(_)
            | Recipe::GaugeGrowth(_)
            | Recipe::GaugeShrinkage(_)
            | Recipe::GaugePeak(_)
            | Recipe::CounterRate(_) => kind == Kind::Sum,
            Recipe::GaugeMean(_)
            | Recipe::WorkerMean(_)
            | Recipe::GaugeProduct(_)
            | Recipe::CounterShare { .. }
            | Recipe::CounterDispersion(_)
            | Recipe::LabelProduct { .. } => kind == Kind::Mean,
            Recipe::Histogram(_) | Recipe::HistogramAt(..) | Recipe::Lengths { .. } => {
                matches!(kind, Kind::Distribution | Kind::Attainment)
            }
            Recipe::UserQuery => kind == Kind::UserQuery,
        }
    }

    #[test]
    fn every_recipe_gives_the_kind_of_signal_that_the_core_expects() {
        for engine in ENGINES {
            for &signal in SignalName::ALL {
                let recipe = engine.recipe(signal);
                let name = engine.name;
                assert!(fits(recipe, signal.kind()), "{name} {signal:?}: {recipe:?}");
            }
        }
    }

    #[test]
    fn every_metric_of_an_engine_begins_as_its_engine_does() {
        for engine in ENGINES {
            let recipes = SignalName::ALL.iter().map(|signal| engine.recipe(*signal));
            let metrics = recipes.flat_map(|recipe| recipe.metrics());
            let metrics = metrics.chain([engine.presence, engine.generation]);
            let names = metrics.flat_map(|metric| {
                let choices = metric.choices().filter(|choice| !choice.foreign);
                choices
                    .flat_map(|choice| choice.names.to_vec())
                    .collect::<Vec<_>>()
            });
            for name in names {
                assert!(name.starts_with(engine.prefix), "{}: {name}", engine.name);
            }
        }
    }

    #[test]
    fn engines_are_found_by_every_name_that_users_write_or_read() {
        for engine in ENGINES {
            let names = [engine.name, engine.name_of_older, engine.name_of_several];
            for name in names {
                let found = Engine::named(name).map(|found| found.name);
                assert_eq!(found, Some(engine.name), "{name}");
            }
        }
        assert!(Engine::named("Triton").is_none());
    }
}
