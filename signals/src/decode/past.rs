//! One step of the past, from the samples of the load and histogram queries.
//!
//! Who was ready then is not known, so workers are counted by their series and nothing is refused
//! for a missing one.

use pd_core::{
    PerRole, Reading,
    signal::{
        Distributions, Signals,
        name::{SignalName, SlotMut},
    },
};

use super::answer::Answer;
use crate::{
    sample::Sample,
    tag::{Part, Tag},
};

/// One step of the past.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// Workers that were scraped.
    pub workers: PerRole<Reading>,
    /// Requests per second that finished prefill.
    pub prefill_completion_rate_rps: Reading,
    /// Prompt tokens per second that the prefix caches held.
    pub prefix_hits_tps: Reading,
    /// Prompt tokens per second that were looked up in them.
    pub prefix_lookups_tps: Reading,
    /// Distributions over the step.
    pub distributions: Distributions,
}

impl Past {
    /// From the samples at the end of the step.
    pub fn of(samples: &[Sample]) -> Self {
        let answer = Answer::of_samples(samples);
        let total = |signal, part| answer.total(Tag::Signal(signal, part));
        let mut signals = Signals::default();
        for &signal in SignalName::ALL {
            if let SlotMut::Distribution(recent, _) = signals.slot_mut(signal) {
                *recent = answer.histogram(signal);
            }
        }
        Self {
            workers: PerRole::from_fn(|role| answer.total(Tag::Workers(role))),
            prefill_completion_rate_rps: total(SignalName::PrefillCompletionRate, Part::Value),
            prefix_hits_tps: total(SignalName::PrefixHitShare, Part::Share),
            prefix_lookups_tps: total(SignalName::PrefixHitShare, Part::Whole),
            distributions: signals.recent,
        }
    }
}
