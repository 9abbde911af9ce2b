//! Which engine an object's series are of, how they are spelt and how often they come: learnt from
//! one answer for the next.
//!
//! Of that only the engine is stored, in status: one that was found stays until another is found in
//! its place. After a start the first answer teaches the spelling, and the windows are those of the
//! flags until an answer shows how often workers are scraped.

use std::time::Duration;

use pd_api::v1alpha1::PDAutoscaler;
use pd_signals::{
    Sample,
    decode::{Answers, scrape_interval},
    engine::{Engine, VLLM},
    gateway::Gateway,
    queries::{Scope, Windows},
};

use crate::{
    args::MetricsArgs,
    prometheus::{self, Answer, NativeHistogram},
};

/// Part of the time between scrapes by which it may differ from that of before. One scrape more or
/// less changes it by so much where there are seven in the ten minutes that are counted.
const NEAR: f64 = 0.15;

/// The engine that `object` states, if it states one.
pub fn stated_engine(object: &PDAutoscaler) -> Option<&'static Engine> {
    Engine::named(object.spec.metrics.engine.as_str())
}

/// The engine, spelling and pace of an object's series, as far as answers have shown them.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The engine that was asked for, and stays until another is found.
    pub engine: Option<&'static Engine>,
    /// The gateway that was found.
    pub gateway: Option<&'static Gateway>,
    /// Beginning of the engine's metrics' names, where it is not the usual one.
    pub prefix: Option<String>,
    /// Time between two scrapes of a worker.
    pub scrape_interval: Option<Duration>,
}

impl Series {
    /// Those that the answers to the queries of `scope` show.
    pub fn of<E>(answers: &Answers<E>, scope: &Scope) -> Self {
        Self {
            engine: Some(scope.engine),
            gateway: None,
            prefix: scope.prefix.clone(),
            scrape_interval: scrape_interval(answers),
        }
    }

    /// The same with the time between scrapes `before`, if it is near: a scrape that comes early or
    /// late changes no window, by which objects are read together.
    #[must_use]
    pub fn steady(self, before: Option<Duration>) -> Self {
        let is_near = |now: Duration, before: Duration| now.abs_diff(before) < before.mul_f64(NEAR);
        let near = self
            .scrape_interval
            .zip(before)
            .filter(|(now, before)| is_near(*now, *before));
        Self {
            scrape_interval: near.map_or(self.scrape_interval, |(_, before)| Some(before)),
            ..self
        }
    }

    /// The windows of the flags, wider where workers are scraped so seldom that they need it.
    pub fn windows(&self, args: &MetricsArgs) -> Windows {
        let set = Windows {
            rates: args.metrics_window,
            age_max: args.metrics_age_max,
        };
        set.stretched(self.scrape_interval)
    }

    /// The engine to ask for: the one that `object` states, else the one that was found last, by
    /// this process or the one before.
    pub fn engine(&self, object: &PDAutoscaler) -> &'static Engine {
        let before = || {
            let status = object.status.as_ref()?;
            Engine::named(status.engine.as_deref()?)
        };
        stated_engine(object)
            .or(self.engine)
            .or_else(before)
            .unwrap_or(&VLLM)
    }

    /// The gateway that was found last, by this process or the one before.
    pub fn gateway(&self, object: &PDAutoscaler) -> Option<&'static Gateway> {
        let before = || {
            let status = object.status.as_ref()?;
            Gateway::named(status.gateway.as_deref()?)
        };
        self.gateway.or_else(before)
    }

    /// `scope` with the spelling and the windows of these series. The spelling is of their engine.
    pub fn spelt(self, scope: Scope, windows: Windows) -> Scope {
        let is_same = self
            .engine
            .is_some_and(|engine| engine.name == scope.engine.name);
        Scope {
            prefix: self.prefix.filter(|_| is_same),
            window: windows.rates,
            ..scope
        }
    }
}

/// The samples of `answer` without its client, native histograms among them.
pub fn samples(mut answer: Answer<prometheus::Sample>) -> Vec<Sample> {
    let histograms = std::mem::take(&mut answer.histograms);
    let (values, _) = answer.into_parts();
    let plain = values.into_iter().map(|sample| Sample {
        labels: sample.labels,
        value: sample.value,
    });
    let native = histograms.iter().flat_map(|histogram| {
        let NativeHistogram {
            labels,
            count,
            sum,
            buckets,
        } = histogram;
        Sample::of_native(labels, *count, *sum, buckets)
    });
    plain.chain(native).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::one_less_of_twenty(31.6, Some(30.0), 30.0)]
    #[case::one_more_of_ten(54.5, Some(60.0), 60.0)]
    #[case::twice_as_slow(60.0, Some(30.0), 60.0)]
    #[case::the_first(31.6, None, 31.6)]
    fn a_scrape_early_or_late_changes_no_window(
        #[case] now: f64,
        #[case] before: Option<f64>,
        #[case] want: f64,
    ) {
        let series = Series {
            scrape_interval: Some(Duration::from_secs_f64(now)),
            ..Series::default()
        };
        let steady = series.steady(before.map(Duration::from_secs_f64));
        assert_eq!(steady.scrape_interval, Some(Duration::from_secs_f64(want)));
    }
}
