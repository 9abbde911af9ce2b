//! The names of all signals, and what each is: role, unit, plausible range.
//!
//! A table and not a trait: rules that hold for every signal (range, quorum, listing) walk over it,
//! so a new signal gets them all by its one row. Names are those of the fields, as serialised.

use serde::{Deserialize, Serialize};

use super::{HistogramReading, Reading, Signals};
use crate::role::Role;

/// Shortest and longest plausible time between tokens, seconds. Faster than any accelerator; slower
/// than anybody waits.
const TOKEN_SECONDS: (f64, f64) = (1e-5, 10.0);

/// Shortest and longest plausible mean of a phase of a request, seconds.
const PHASE_SECONDS: (f64, f64) = (1e-6, 3_600.0);

/// Fewest and most plausible tokens of a request.
const REQUEST_TOKENS: (f64, f64) = (1.0, 1e7);

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    missing_docs,
    reason = "each is the field of `Signals` of the same name"
)]
pub enum SignalName {
    PrefillCompletionRate,
    DecodeCompletionRate,
    PrefillQueueGrowth,
    ArrivalRate,
    ArrivalDispersion,
    PrefillWaitingRequests,
    DecodeWaitingRequests,
    PrefillRunningRequests,
    DecodeRunningRequests,
    PrefillRequestsPeak,
    DecodeRequestsPeak,
    DecodeDeferredRequests,
    WakeRequests,
    PrefixHitShare,
    DecodeKvUsage,
    DecodeKvCapacity,
    DecodePreemptionRate,
    OutputTokenRate,
    PrefillTtft,
    DecodeTtft,
    PrefillTime,
    PrefillStepTokens,
    PromptTokens,
    OutputTokens,
    Tpot,
    InterTokenLatency,
    PrefillTtftAttainment,
    TpotAttainment,
    TtftOverride,
    TpotOverride,
}

/// Unit of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Requests.
    Requests,
    /// Requests per second.
    RequestsPerSecond,
    /// Tokens.
    Tokens,
    /// Tokens per second.
    TokensPerSecond,
    /// Seconds.
    Seconds,
    /// 0 to 1.
    Share,
    /// A plain number.
    Number,
}

impl Unit {
    /// As put behind a number.
    pub const fn as_text(self) -> &'static str {
        match self {
            Self::Requests => " requests",
            Self::RequestsPerSecond => " requests/s",
            Self::Tokens => " tokens",
            Self::TokensPerSecond => " tokens/s",
            Self::Seconds => " s",
            Self::Share | Self::Number => "",
        }
    }
}

impl SignalName {
    /// The name as serialised.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrefillCompletionRate => "prefillCompletionRate",
            Self::DecodeCompletionRate => "decodeCompletionRate",
            Self::PrefillQueueGrowth => "prefillQueueGrowth",
            Self::ArrivalRate => "arrivalRate",
            Self::ArrivalDispersion => "arrivalDispersion",
            Self::PrefillWaitingRequests => "prefillWaitingRequests",
            Self::DecodeWaitingRequests => "decodeWaitingRequests",
            Self::PrefillRunningRequests => "prefillRunningRequests",
            Self::DecodeRunningRequests => "decodeRunningRequests",
            Self::PrefillRequestsPeak => "prefillRequestsPeak",
            Self::DecodeRequestsPeak => "decodeRequestsPeak",
            Self::DecodeDeferredRequests => "decodeDeferredRequests",
            Self::WakeRequests => "wakeRequests",
            Self::PrefixHitShare => "prefixHitShare",
            Self::DecodeKvUsage => "decodeKvUsage",
            Self::DecodeKvCapacity => "decodeKvCapacity",
            Self::DecodePreemptionRate => "decodePreemptionRate",
            Self::OutputTokenRate => "outputTokenRate",
            Self::PrefillTtft => "prefillTtft",
            Self::DecodeTtft => "decodeTtft",
            Self::PrefillTime => "prefillTime",
            Self::PrefillStepTokens => "prefillStepTokens",
            Self::PromptTokens => "promptTokens",
            Self::OutputTokens => "outputTokens",
            Self::Tpot => "tpot",
            Self::InterTokenLatency => "interTokenLatency",
            Self::PrefillTtftAttainment => "prefillTtftAttainment",
            Self::TpotAttainment => "tpotAttainment",
            Self::TtftOverride => "ttftOverride",
            Self::TpotOverride => "tpotOverride",
        }
    }

    /// The role whose workers it is read from; none for the user's own queries.
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::PrefillCompletionRate
            | Self::PrefillQueueGrowth
            | Self::ArrivalDispersion
            | Self::PrefillWaitingRequests
            | Self::PrefillRunningRequests
            | Self::PrefillRequestsPeak
            | Self::PrefixHitShare
            | Self::PrefillTtft
            | Self::PrefillTime
            | Self::PrefillStepTokens
            | Self::PromptTokens
            | Self::PrefillTtftAttainment => Some(Role::Prefill),
            Self::DecodeCompletionRate
            | Self::DecodeWaitingRequests
            | Self::DecodeRunningRequests
            | Self::DecodeRequestsPeak
            | Self::DecodeDeferredRequests
            | Self::DecodeKvUsage
            | Self::DecodeKvCapacity
            | Self::DecodePreemptionRate
            | Self::OutputTokenRate
            | Self::DecodeTtft
            | Self::OutputTokens
            | Self::Tpot
            | Self::InterTokenLatency
            | Self::TpotAttainment => Some(Role::Decode),
            Self::ArrivalRate | Self::WakeRequests | Self::TtftOverride | Self::TpotOverride => {
                None
            }
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::PrefillCompletionRate
            | Self::DecodeCompletionRate
            | Self::PrefillQueueGrowth
            | Self::ArrivalRate
            | Self::DecodePreemptionRate => Unit::RequestsPerSecond,
            Self::PrefillWaitingRequests
            | Self::DecodeWaitingRequests
            | Self::PrefillRunningRequests
            | Self::DecodeRunningRequests
            | Self::PrefillRequestsPeak
            | Self::DecodeRequestsPeak
            | Self::DecodeDeferredRequests
            | Self::WakeRequests => Unit::Requests,
            Self::ArrivalDispersion => Unit::Number,
            Self::PrefixHitShare | Self::DecodeKvUsage => Unit::Share,
            Self::DecodeKvCapacity
            | Self::PrefillStepTokens
            | Self::PromptTokens
            | Self::OutputTokens => Unit::Tokens,
            Self::OutputTokenRate => Unit::TokensPerSecond,
            Self::PrefillTtft
            | Self::DecodeTtft
            | Self::PrefillTime
            | Self::Tpot
            | Self::InterTokenLatency
            | Self::PrefillTtftAttainment
            | Self::TpotAttainment
            | Self::TtftOverride
            | Self::TpotOverride => Unit::Seconds,
        }
    }

    /// Least and largest plausible number, of a distribution its mean. Zero is always plausible:
    /// nothing happened.
    pub const fn plausible(self) -> (f64, f64) {
        match self {
            Self::PrefixHitShare | Self::DecodeKvUsage => (0.0, 1.01),
            Self::Tpot | Self::InterTokenLatency | Self::TpotAttainment | Self::TpotOverride => {
                TOKEN_SECONDS
            }
            Self::PrefillStepTokens | Self::PromptTokens | Self::OutputTokens => REQUEST_TOKENS,
            Self::DecodeKvCapacity => (16.0, 1e10),
            Self::OutputTokenRate => (0.0, 1e9),
            _ => match self.unit() {
                Unit::Seconds => PHASE_SECONDS,
                Unit::RequestsPerSecond => (0.0, 1e7),
                Unit::Requests => (0.0, 1e8),
                _ => (0.0, 1e6),
            },
        }
    }

    /// Whether it is a sum over workers, so that a worker that is not scraped is missing in it.
    pub const fn is_sum(self) -> bool {
        matches!(
            self,
            Self::PrefillCompletionRate
                | Self::DecodeCompletionRate
                | Self::PrefillQueueGrowth
                | Self::PrefillWaitingRequests
                | Self::DecodeWaitingRequests
                | Self::PrefillRunningRequests
                | Self::DecodeRunningRequests
                | Self::PrefillRequestsPeak
                | Self::DecodeRequestsPeak
                | Self::DecodeDeferredRequests
                | Self::DecodePreemptionRate
                | Self::OutputTokenRate
        )
    }

    /// Whether the user's own query gives it.
    pub const fn is_override(self) -> bool {
        self.role().is_none()
    }
}

macro_rules! numbers {
    ($($field:ident $(. $part:ident)? => $name:ident,)+) => {
        impl Signals {
            /// Every single number with its name.
            pub fn numbers(&self) -> impl Iterator<Item = (SignalName, Reading)> {
                [$((SignalName::$name, self.$field$(.$part)?),)+].into_iter()
            }

            /// The same, to be changed.
            pub(crate) fn numbers_mut(&mut self) -> impl Iterator<Item = (SignalName, &mut Reading)> {
                [$((SignalName::$name, &mut self.$field$(.$part)?),)+].into_iter()
            }
        }
    };
}

numbers! {
    prefill_completion_rate_rps => PrefillCompletionRate,
    decode_completion_rate_rps => DecodeCompletionRate,
    prefill_queue_growth_rps => PrefillQueueGrowth,
    arrival_rate_rps_override => ArrivalRate,
    arrival_dispersion => ArrivalDispersion,
    waiting_requests.prefill => PrefillWaitingRequests,
    waiting_requests.decode => DecodeWaitingRequests,
    running_requests.prefill => PrefillRunningRequests,
    running_requests.decode => DecodeRunningRequests,
    requests_peak.prefill => PrefillRequestsPeak,
    requests_peak.decode => DecodeRequestsPeak,
    decode_deferred_requests => DecodeDeferredRequests,
    wake_requests => WakeRequests,
    prefix_hit_share => PrefixHitShare,
    decode_kv_usage => DecodeKvUsage,
    decode_kv_capacity_tokens => DecodeKvCapacity,
    decode_preemption_rate_rps => DecodePreemptionRate,
    output_token_rate_tps => OutputTokenRate,
    ttft_seconds_override => TtftOverride,
    tpot_seconds_override => TpotOverride,
}

macro_rules! distributions {
    ($($field:ident => $name:ident,)+) => {
        impl Signals {
            /// Every distribution with its name: over the rate window, and over the wide one.
            pub fn distributions(
                &self,
            ) -> impl Iterator<Item = (SignalName, &HistogramReading, &HistogramReading)> {
                let (recent, wide) = (&self.recent, &self.wide);
                [$((SignalName::$name, &recent.$field, &wide.$field),)+].into_iter()
            }

            /// The same, to be changed, with those over the attainment window.
            pub(crate) fn distributions_mut(
                &mut self,
            ) -> impl Iterator<Item = (SignalName, &mut HistogramReading)> {
                let (recent, wide) = (&mut self.recent, &mut self.wide);
                [
                    $(
                        (SignalName::$name, &mut recent.$field),
                        (SignalName::$name, &mut wide.$field),
                    )+
                    (SignalName::PrefillTtftAttainment, &mut self.prefill_ttft_attainment),
                    (SignalName::TpotAttainment, &mut self.tpot_attainment),
                ]
                .into_iter()
            }
        }
    };
}

distributions! {
    prefill_ttft => PrefillTtft,
    decode_ttft => DecodeTtft,
    prefill_time => PrefillTime,
    prefill_step_tokens => PrefillStepTokens,
    prompt_tokens => PromptTokens,
    output_tokens => OutputTokens,
    tpot => Tpot,
    inter_token_latency => InterTokenLatency,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelt_as_they_are_serialised() {
        let signals = Signals::default();
        let names = signals.numbers().map(|(name, _)| name);
        for name in names.chain(signals.distributions().map(|(name, ..)| name)) {
            let text = serde_json::to_string(&name).unwrap();
            assert_eq!(text, format!("\"{}\"", name.as_str()));
        }
    }
}
