//! How an object's series are spelt and how often they come: learnt from one answer for the next.
//!
//! Nothing of it is stored. After a start the first answer teaches the spelling, and the windows
//! are those of the flags until an answer shows how often workers are scraped.

use std::time::Duration;

use pd_signals::{
    Sample,
    decode::{Answers, scrape_interval},
    queries::{Scope, Windows},
};

use crate::{
    args::MetricsArgs,
    prometheus::{self, Answer, NativeHistogram},
};

/// The spelling and the pace of an object's series, as far as answers have shown them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Beginning of the engine's metrics' names, where it is not the usual one.
    pub prefix: Option<String>,
    /// Time between two scrapes of a worker.
    pub scrape_interval: Option<Duration>,
}

impl Series {
    /// Those that the answers to the queries of `scope` show.
    pub fn of<E>(answers: &Answers<E>, scope: &Scope) -> Self {
        Self {
            prefix: scope.prefix.clone(),
            scrape_interval: scrape_interval(answers),
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

    /// `scope` with the spelling and the windows of these series.
    pub fn spelt(self, scope: Scope, windows: Windows) -> Scope {
        Scope {
            prefix: self.prefix,
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
