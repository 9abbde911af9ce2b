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
use super::horizontal::{Behavior, ceil};
use super::kthena_pd_ratio::{self, KthenaPdRatio, RatioRange};
use super::{
    AibrixApa, Autoscaler, HpaAverageValue, HpaValue, KedaDefault, KnativeKpa, TokenscaleVelocity,
    WvaSaturation, aibrix_apa, horizontal, knative_kpa, tokenscale_velocity,
};
use crate::engine::{Arrival, Profile};
use crate::scenario::Scenario;
use crate::time::{Nanos, seconds};

/// Share of a prefill replica that the replicas for mean demands use.
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
    /// From the start to the last request.
    span_seconds: f64,
}

impl TraceMeans {
    /// Counts a request.
    pub fn add(&mut self, profile: &Profile, arrival: &Arrival) {
        let (input, output) = (arrival.input_tokens.max(1), arrival.output_tokens.max(1));
        let cached = profile.cached_tokens(input);
        self.requests += 1.0;
        self.span_seconds = self.span_seconds.max(seconds(arrival.at));
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

    /// Replicas of each role that the mean demands take, whole ones as an operator runs them; at
    /// least one.
    fn replicas(&self, profile: &Profile, tpot_seconds: f64) -> PerRole<u32> {
        let span_seconds = self.span_seconds.max(1.0);
        let decode_seconds = self.output_tokens / self.decode_tps(profile, tpot_seconds);
        PerRole {
            prefill: ceil(self.prefill_seconds / span_seconds / PREFILL_USED).max(1),
            decode: ceil(decode_seconds / span_seconds / DECODE_USED).max(1),
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
    /// The fewest fixed replicas that attain the objective on the trace, where they were searched
    /// and found: what an operator who load-tests whole workers ends with.
    pub fixed: Option<PerRole<u32>>,
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
        let profiled = self.prefill_per_decode();
        RatioRange {
            lowest: profiled / RANGE_FACTOR,
            highest: profiled * RANGE_FACTOR,
        }
    }

    /// Prefill replicas per decode replica, of whole ones.
    fn prefill_per_decode(&self) -> f64 {
        let by_means = || self.means.replicas(self.profile(), self.sla().itl_seconds);
        let replicas = self.fixed.unwrap_or_else(by_means);
        f64::from(replicas.prefill) / f64::from(replicas.decode.max(1))
    }

    fn profiled(&self) -> Profiled {
        let sla = self.sla();
        Profiled {
            decode_tps: DECODE_USED * self.means.decode_tps(self.profile(), sla.itl_seconds),
            prefill_per_decode: self.prefill_per_decode(),
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

    /// Whether it is given a ratio that was profiled, so that [`Known::fixed`] matters.
    pub const fn takes_a_ratio(self) -> bool {
        matches!(self, Self::KthenaPdRatio | Self::HeteroscaleFixedRatio)
    }

    /// The parameters that are searched when it is tuned.
    pub const fn tuning(self) -> Tuning {
        match self {
            Self::KthenaPdRatio => Tuning::Together,
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
        // A plain HPA has no `behavior` as shipped. An owner who tunes it writes one.
        let behavior = match variant {
            Variant::Default => None,
            Variant::Tuned => Some(Behavior::DEFAULTS),
        };
        match self {
            Self::HpaValue => Box::new(HpaValue::new(behavior, aggressiveness)),
            Self::HpaAverageValue => {
                let places = profile.max_batch;
                Box::new(HpaAverageValue::new(places, behavior, aggressiveness))
            }
            Self::Keda => Box::new(KedaDefault::new(behavior, aggressiveness)),
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
            Self::HeteroscaleFixedRatio => {
                Box::new(HeteroscaleFixedRatio::new(known.profiled(), aggressiveness))
            }
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
    use rstest::rstest;

    use super::*;
    use crate::time::SECOND;

    /// So many requests a second for an hour, of so many tokens.
    fn means(rps: u32, input_tokens: u32, output_tokens: u32) -> TraceMeans {
        let mut means = TraceMeans::default();
        for number in 0..rps * 3_600 {
            let arrival = Arrival {
                at: u64::from(number) * SECOND / u64::from(rps),
                input_tokens,
                output_tokens,
                prompt: None,
            };
            means.add(&Profile::default(), &arrival);
        }
        means
    }

    #[rstest]
    // Many replicas: the published ratio of Llama-70B FP8 at 25 ms, 2.7 with prefill used to 0.9
    // and decode to 0.92, is 3.4 with 0.7 and 0.9.
    #[case::many(500, 650, 155, (26, 8))]
    // Few: decode needs a fraction of a replica, and runs a whole one.
    #[case::a_fraction_of_a_replica(11, 1_600, 106, (2, 1))]
    #[case::hardly_anything(1, 100, 10, (1, 1))]
    fn mean_demands_take_whole_replicas(
        #[case] rps: u32,
        #[case] input_tokens: u32,
        #[case] output_tokens: u32,
        #[case] (prefill, decode): (u32, u32),
    ) {
        let means = means(rps, input_tokens, output_tokens);
        let replicas = means.replicas(&Profile::default(), 0.025);
        assert_eq!(replicas, PerRole { prefill, decode });
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
