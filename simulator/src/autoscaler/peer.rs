//! The peers by name: who decides how often, what is tuned, and how each is made.
//!
//! Two variants of each. `default` is what a user gets who follows the project's documentation;
//! `tuned` has its aggressiveness searched on the very trace it is played on, which no user can do,
//! so that it loses by its rule and not by its settings. An aggressiveness of 1 is the default; 2
//! aims at half the load per replica.

use std::fmt;

use pd_core::PerRole;

use super::dynamo::load::Target;
use super::dynamo::{self, Dynamo, Sla};
use super::engine_rates::{decode_batch, decode_step_seconds};
use super::heteroscale_fixed_ratio::{self, HeteroscaleFixedRatio, Profiled};
use super::kthena_pd_ratio::{self, KthenaPdRatio, RatioRange};
use super::{
    AibrixApa, Autoscaler, HpaAverageValue, HpaValue, KedaDefault, KnativeKpa, TokenscaleVelocity,
    WvaSaturation, aibrix_apa, horizontal, knative_kpa, tokenscale_velocity,
};
use crate::engine::{Arrival, Profile};
use crate::scenario::Scenario;
use crate::time::{Nanos, seconds};

/// Share of a prefill replica that the ratio of mean demands uses.
const PREFILL_USED: f64 = 0.7;

/// The same for decode.
const DECODE_USED: f64 = 0.9;

/// How far a user's ratio range reaches to either side.
const RANGE_FACTOR: f64 = 2.0;

/// A policy of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// HPA, External metric of type Value.
    HpaValue,
    /// HPA, requests in flight as `AverageValue`.
    HpaAverageValue,
    /// KEDA's Prometheus scaler.
    Keda,
    /// Knative's KPA.
    KnativeKpa,
    /// `AIBrix`' APA.
    AibrixApa,
    /// Kthena with a P:D ratio range.
    KthenaPdRatio,
    /// llm-d's WVA.
    WvaSaturation,
    /// Dynamo's throughput loop.
    DynamoThroughput,
    /// Dynamo's load loop.
    DynamoLoad,
    /// Both.
    DynamoBoth,
    /// `HeteroScale`.
    HeteroscaleFixedRatio,
    /// `TokenScale`.
    TokenscaleVelocity,
}

/// Settings of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// As shipped.
    Default,
    /// Searched on the trace.
    Tuned,
}

/// The parameters that one search varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// Each role's aggressiveness, prefill first.
    PerRole,
    /// One for both, as the roles hang together.
    Together,
}

/// Means of a whole trace: what an operator who profiled it would know.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TraceMeans {
    requests: f64,
    prefill_seconds: f64,
    output_tokens: f64,
    /// Context weighted by the tokens written at it.
    context_tokens: f64,
}

impl TraceMeans {
    /// Counts a request.
    pub fn add(&mut self, profile: &Profile, arrival: &Arrival) {
        let (input, output) = (arrival.input_tokens.max(1), arrival.output_tokens.max(1));
        let cached = profile.cached_tokens(input);
        self.requests += 1.0;
        self.prefill_seconds += seconds(profile.prefill_time(input, cached));
        self.output_tokens += f64::from(output);
        self.context_tokens += f64::from(output) * (f64::from(input) + f64::from(output) / 2.0);
    }

    /// Output tokens per second that one decode replica gives at the TPOT limit.
    fn decode_tps(&self, profile: &Profile, tpot_seconds: f64) -> f64 {
        let context = self.context_tokens / self.output_tokens.max(1.0);
        let batch = decode_batch(profile, tpot_seconds, context)
            .floor()
            .max(1.0);
        batch / decode_step_seconds(profile, batch, batch * context)
    }

    /// Prefill replicas per decode replica that the mean demands take.
    fn prefill_per_decode(&self, profile: &Profile, tpot_seconds: f64) -> f64 {
        let decode_seconds = self.output_tokens / self.decode_tps(profile, tpot_seconds);
        let ratio = (self.prefill_seconds / PREFILL_USED) / (decode_seconds / DECODE_USED);
        if ratio.is_finite() && ratio > 0.0 {
            ratio
        } else {
            1.0
        }
    }
}

/// The inputs that peers are made from.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// The service.
    pub scenario: &'a Scenario,
    /// The trace.
    pub means: TraceMeans,
}

impl Known<'_> {
    fn profile(&self) -> &Profile {
        &self.scenario.profile
    }

    fn sla(&self) -> Sla {
        let objective = &self.scenario.policy().objective;
        Sla {
            ttft_seconds: objective.ttft.limit.as_secs_f64(),
            itl_seconds: objective.tpot.limit.as_secs_f64(),
        }
    }

    fn ratio_range(&self) -> RatioRange {
        if let Some(ratio) = self.scenario.policy().ratio {
            return RatioRange {
                lowest: ratio.band.lowest.as_f64(),
                highest: ratio.band.highest.as_f64(),
            };
        }
        let mean = self
            .means
            .prefill_per_decode(self.profile(), self.sla().itl_seconds);
        RatioRange {
            lowest: mean / RANGE_FACTOR,
            highest: mean * RANGE_FACTOR,
        }
    }

    fn profiled(&self) -> Profiled {
        let sla = self.sla();
        Profiled {
            decode_tps: DECODE_USED * self.means.decode_tps(self.profile(), sla.itl_seconds),
            prefill_per_decode: self
                .means
                .prefill_per_decode(self.profile(), sla.itl_seconds),
            tbt_seconds: sla.itl_seconds,
        }
    }
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::HpaValue,
        Self::HpaAverageValue,
        Self::Keda,
        Self::KnativeKpa,
        Self::AibrixApa,
        Self::KthenaPdRatio,
        Self::WvaSaturation,
        Self::DynamoThroughput,
        Self::DynamoLoad,
        Self::DynamoBoth,
        Self::HeteroscaleFixedRatio,
        Self::TokenscaleVelocity,
    ];

    /// Its name with a variant, as users write it.
    pub const fn name(self, variant: Variant) -> &'static str {
        use Variant::{Default, Tuned};
        match (self, variant) {
            (Self::HpaValue, Default) => "hpa-value-default",
            (Self::HpaValue, Tuned) => "hpa-value-tuned",
            (Self::HpaAverageValue, Default) => "hpa-average-value-default",
            (Self::HpaAverageValue, Tuned) => "hpa-average-value-tuned",
            (Self::Keda, Default) => "keda-default",
            (Self::Keda, Tuned) => "keda-tuned",
            (Self::KnativeKpa, Default) => "knative-kpa-default",
            (Self::KnativeKpa, Tuned) => "knative-kpa-tuned",
            (Self::AibrixApa, Default) => "aibrix-apa-default",
            (Self::AibrixApa, Tuned) => "aibrix-apa-tuned",
            (Self::KthenaPdRatio, Default) => "kthena-pd-ratio-default",
            (Self::KthenaPdRatio, Tuned) => "kthena-pd-ratio-tuned",
            (Self::WvaSaturation, Default) => "wva-saturation-default",
            (Self::WvaSaturation, Tuned) => "wva-saturation-tuned",
            (Self::DynamoThroughput, Default) => "dynamo-throughput-default",
            (Self::DynamoThroughput, Tuned) => "dynamo-throughput-tuned",
            (Self::DynamoLoad, Default) => "dynamo-load-default",
            (Self::DynamoLoad, Tuned) => "dynamo-load-tuned",
            (Self::DynamoBoth, Default) => "dynamo-both-default",
            (Self::DynamoBoth, Tuned) => "dynamo-both-tuned",
            (Self::HeteroscaleFixedRatio, Default) => "heteroscale-fixed-ratio-default",
            (Self::HeteroscaleFixedRatio, Tuned) => "heteroscale-fixed-ratio-tuned",
            (Self::TokenscaleVelocity, Default) => "tokenscale-velocity-default",
            (Self::TokenscaleVelocity, Tuned) => "tokenscale-velocity-tuned",
        }
    }

    /// Time between two of its decisions.
    pub const fn interval(self) -> Nanos {
        match self {
            Self::HpaValue | Self::HpaAverageValue | Self::Keda | Self::WvaSaturation => {
                horizontal::INTERVAL
            }
            Self::KnativeKpa => knative_kpa::INTERVAL,
            Self::AibrixApa => aibrix_apa::INTERVAL,
            Self::KthenaPdRatio => kthena_pd_ratio::INTERVAL,
            Self::DynamoThroughput => dynamo::THROUGHPUT_INTERVAL,
            Self::DynamoLoad | Self::DynamoBoth => dynamo::LOAD_INTERVAL,
            Self::HeteroscaleFixedRatio => heteroscale_fixed_ratio::INTERVAL,
            Self::TokenscaleVelocity => tokenscale_velocity::INTERVAL,
        }
    }

    /// The parameters that are searched when it is tuned.
    pub const fn tuning(self) -> Tuning {
        match self {
            Self::KthenaPdRatio | Self::HeteroscaleFixedRatio => Tuning::Together,
            _ => Tuning::PerRole,
        }
    }

    /// The policy at an aggressiveness; 1 is the default.
    pub fn build(
        self,
        variant: Variant,
        known: &Known<'_>,
        aggressiveness: PerRole<f64>,
    ) -> Box<dyn Autoscaler> {
        let profile = known.profile();
        let sla = known.sla();
        match self {
            Self::HpaValue => Box::new(HpaValue::new(aggressiveness)),
            Self::HpaAverageValue => {
                Box::new(HpaAverageValue::new(profile.max_batch, aggressiveness))
            }
            Self::Keda => Box::new(KedaDefault::new(aggressiveness)),
            Self::KnativeKpa => Box::new(KnativeKpa::new(aggressiveness)),
            Self::AibrixApa => Box::new(AibrixApa::new(aggressiveness)),
            Self::KthenaPdRatio => {
                Box::new(KthenaPdRatio::new(known.ratio_range(), aggressiveness))
            }
            Self::WvaSaturation => Box::new(WvaSaturation::new(profile.clone(), aggressiveness)),
            Self::DynamoThroughput => Box::new(Dynamo::throughput(profile, sla, aggressiveness)),
            Self::DynamoLoad => {
                let target = match variant {
                    Variant::Default => Target::Throughput,
                    Variant::Tuned => Target::Sla(sla),
                };
                Box::new(Dynamo::load(profile, target, aggressiveness))
            }
            Self::DynamoBoth => Box::new(Dynamo::both(profile, sla, aggressiveness)),
            Self::HeteroscaleFixedRatio => Box::new(HeteroscaleFixedRatio::new(
                known.profiled(),
                aggressiveness.decode,
            )),
            Self::TokenscaleVelocity => Box::new(TokenscaleVelocity::new(
                profile.clone(),
                sla.itl_seconds,
                aggressiveness,
            )),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name(Variant::Default);
        f.write_str(name.strip_suffix("-default").unwrap_or(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_demands_give_the_published_ratio() {
        // Llama-70B FP8, 25 ms, used to 0.9 and 0.92: 650 prompt and 155 answer tokens take 2.7
        // prefill replicas per decode replica; here used to 0.7 and 0.9.
        let mut means = TraceMeans::default();
        means.add(
            &Profile::default(),
            &Arrival {
                at: 0,
                input_tokens: 650,
                output_tokens: 155,
                prompt: None,
            },
        );
        let ratio = means.prefill_per_decode(&Profile::default(), 0.025);
        let published = 2.7 * (0.9 / 0.7) / (0.92 / 0.9);
        assert!((ratio / published - 1.0).abs() < 0.1, "{ratio} {published}");
    }

    #[test]
    fn names_are_unique_and_end_in_their_variant() {
        let mut names = std::collections::BTreeSet::new();
        for peer in Peer::ALL {
            for (variant, end) in [(Variant::Default, "-default"), (Variant::Tuned, "-tuned")] {
                assert!(peer.name(variant).ends_with(end));
                assert!(names.insert(peer.name(variant)));
            }
        }
    }
}
