//! One row for each signal: its name, whose workers it is read from, its unit, its kind, the range
//! that is plausible, and its place in [`Signals`].
//!
//! A table and not a trait: rules that hold for every signal (range, quorum, listing) walk over it,
//! so a new signal gets them all by its one row. Names are those that reports and logs have. How an
//! engine's series give a signal is not the core's to know: the catalogues of pd-signals match over
//! [`SignalName`], so a signal that a catalogue forgets does not compile.

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

use super::{HistogramReading, Reading, Signals};
use crate::role::Role;

/// Least and largest plausible number, of a distribution its mean.
type Range = (f64, f64);

/// Shortest and longest plausible time between tokens, seconds. Faster than any accelerator; slower
/// than anybody waits.
const TOKEN_SECONDS: Range = (1e-5, 10.0);

/// Shortest and longest plausible mean of a phase of a request, seconds.
const PHASE_SECONDS: Range = (1e-6, 3_600.0);

/// Fewest and most plausible tokens of a request.
const REQUEST_TOKENS: Range = (1.0, 1e7);

/// Plausible tokens of one worker's KV cache: one block of the smallest size, and far beyond any
/// GPU.
const CACHE_TOKENS: Range = (16.0, 1e10);

/// Plausible requests at once.
const REQUESTS: Range = (0.0, 1e8);

/// Plausible requests per second.
const REQUEST_RATE: Range = (0.0, 1e7);

/// Plausible tokens per second.
const TOKEN_RATE: Range = (0.0, 1e9);

/// Plausible shares; a little over 1 is rounding.
const SHARE: Range = (0.0, 1.01);

/// Plausible indices of dispersion.
const DISPERSION: Range = (0.0, 1e6);

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

/// How a signal speaks for the workers of its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum over workers, so that a worker that is not scraped is missing in it.
    Sum,
    /// A mean, a share or an index of the workers that are scraped.
    Mean,
    /// A number that the user's own query gives.
    UserQuery,
    /// A number that the gateway before the workers counts.
    Gateway,
    /// A distribution over the rate window, and over the wide one.
    Distribution,
    /// A distribution over the attainment window.
    Attainment,
}

/// Where a signal is in [`Signals`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slot<'a> {
    /// A single number.
    Number(&'a Reading),
    /// A distribution over the rate window, and over the wide one.
    Distribution(&'a HistogramReading, &'a HistogramReading),
    /// A distribution over the attainment window.
    Attainment(&'a HistogramReading),
}

/// The same, to be written.
#[derive(Debug, PartialEq)]
pub enum SlotMut<'a> {
    /// A single number.
    Number(&'a mut Reading),
    /// A distribution over the rate window, and over the wide one.
    Distribution(&'a mut HistogramReading, &'a mut HistogramReading),
    /// A distribution over the attainment window.
    Attainment(&'a mut HistogramReading),
}

/// The slot that a kind of signal has: `slot!(Kind, SlotType, (reference), signals, field)`.
macro_rules! slot {
    (Distribution, $slot:ident, ($($by:tt)+), $signals:ident, $($field:tt)+) => {
        $slot::Distribution($($by)+ $signals.recent.$($field)+, $($by)+ $signals.wide.$($field)+)
    };
    (Attainment, $slot:ident, ($($by:tt)+), $signals:ident, $($field:tt)+) => {
        $slot::Attainment($($by)+ $signals.$($field)+)
    };
    ($number:ident, $slot:ident, ($($by:tt)+), $signals:ident, $($field:tt)+) => {
        $slot::Number($($by)+ $signals.$($field)+)
    };
}

/// Everything that follows from the rows: the names, what each is, and where it is.
macro_rules! signals {
    ($($name:ident: $role:expr, $unit:ident, $kind:ident, $range:ident, $($field:ident).+;)+) => {
        /// A signal.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
            strum::IntoStaticStr, strum::VariantArray,
        )]
        #[serde(rename_all = "camelCase")]
        #[strum(serialize_all = "camelCase")]
        #[expect(missing_docs, reason = "each is documented at its field of `Signals`")]
        pub enum SignalName {
            $($name,)+
        }

        impl SignalName {
            /// The role whose workers it is read from; none for the user's own queries and what the
            /// gateway publishes.
            pub const fn role(self) -> Option<Role> {
                match self {
                    $(Self::$name => $role,)+
                }
            }

            /// Its unit.
            pub const fn unit(self) -> Unit {
                match self {
                    $(Self::$name => Unit::$unit,)+
                }
            }

            /// How it speaks for the workers.
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind::$kind,)+
                }
            }

            /// Least and largest plausible number, of a distribution its mean. Zero is always
            /// plausible: nothing happened.
            pub const fn plausible(self) -> (f64, f64) {
                match self {
                    $(Self::$name => $range,)+
                }
            }
        }

        impl Signals {
            /// The place of `name`.
            pub const fn slot(&self, name: SignalName) -> Slot<'_> {
                match name {
                    $(SignalName::$name => slot!($kind, Slot, (&), self, $($field).+),)+
                }
            }

            /// The same, to be written.
            pub const fn slot_mut(&mut self, name: SignalName) -> SlotMut<'_> {
                match name {
                    $(SignalName::$name => slot!($kind, SlotMut, (&mut), self, $($field).+),)+
                }
            }
        }
    };
}

const PREFILL: Option<Role> = Some(Role::Prefill);
const DECODE: Option<Role> = Some(Role::Decode);
const NO_ROLE: Option<Role> = None;

signals! {
    // Name: role, unit, kind, plausible range, field of `Signals`.
    PrefillCompletionRate: PREFILL, RequestsPerSecond, Sum, REQUEST_RATE, prefill_completion_rate_rps;
    DecodeCompletionRate: DECODE, RequestsPerSecond, Sum, REQUEST_RATE, decode_completion_rate_rps;
    PrefillQueueGrowth: PREFILL, RequestsPerSecond, Sum, REQUEST_RATE, prefill_queue_growth_rps;
    PrefillUnservedRate: PREFILL, RequestsPerSecond, Sum, REQUEST_RATE, prefill_unserved_rate_rps;
    PrefillQueueDrain: PREFILL, RequestsPerSecond, Sum, REQUEST_RATE, prefill_queue_drain_rps;
    GatewayArrivalRate: NO_ROLE, RequestsPerSecond, Gateway, REQUEST_RATE, gateway_arrival_rate_rps;
    ArrivalRate: NO_ROLE, RequestsPerSecond, UserQuery, REQUEST_RATE, arrival_rate_rps_override;
    ArrivalDispersion: PREFILL, Number, Mean, DISPERSION, arrival_dispersion;
    PrefillWaitingRequests: PREFILL, Requests, Sum, REQUESTS, waiting_requests.prefill;
    DecodeWaitingRequests: DECODE, Requests, Sum, REQUESTS, waiting_requests.decode;
    PrefillRunningRequests: PREFILL, Requests, Sum, REQUESTS, running_requests.prefill;
    DecodeRunningRequests: DECODE, Requests, Sum, REQUESTS, running_requests.decode;
    PrefillRequestsPeak: PREFILL, Requests, Sum, REQUESTS, requests_peak.prefill;
    DecodeRequestsPeak: DECODE, Requests, Sum, REQUESTS, requests_peak.decode;
    DecodeDeferredRequests: DECODE, Requests, Sum, REQUESTS, decode_deferred_requests;
    WakeRequests: NO_ROLE, Requests, UserQuery, REQUESTS, wake_requests;
    PrefixHitShare: PREFILL, Share, Mean, SHARE, prefix_hit_share;
    DecodeKvUsage: DECODE, Share, Mean, SHARE, decode_kv_usage;
    DecodeKvCapacity: DECODE, Tokens, Mean, CACHE_TOKENS, decode_kv_capacity_tokens;
    DecodePreemptionRate: DECODE, RequestsPerSecond, Sum, REQUEST_RATE, decode_preemption_rate_rps;
    OutputTokenRate: DECODE, TokensPerSecond, Sum, TOKEN_RATE, output_token_rate_tps;
    GatewayTtft: NO_ROLE, Seconds, Distribution, PHASE_SECONDS, gateway_ttft;
    PrefillTtft: PREFILL, Seconds, Distribution, PHASE_SECONDS, prefill_ttft;
    DecodeTtft: DECODE, Seconds, Distribution, PHASE_SECONDS, decode_ttft;
    PrefillTime: PREFILL, Seconds, Distribution, PHASE_SECONDS, prefill_time;
    PrefillStepTokens: PREFILL, Tokens, Distribution, REQUEST_TOKENS, prefill_step_tokens;
    PromptTokens: PREFILL, Tokens, Distribution, REQUEST_TOKENS, prompt_tokens;
    OutputTokens: DECODE, Tokens, Distribution, REQUEST_TOKENS, output_tokens;
    Tpot: DECODE, Seconds, Distribution, TOKEN_SECONDS, tpot;
    InterTokenLatency: DECODE, Seconds, Distribution, TOKEN_SECONDS, inter_token_latency;
    GatewayTtftAttainment: NO_ROLE, Seconds, Attainment, PHASE_SECONDS, gateway_ttft_attainment;
    PrefillTtftAttainment: PREFILL, Seconds, Attainment, PHASE_SECONDS, prefill_ttft_attainment;
    DecodeTtftAttainment: DECODE, Seconds, Attainment, PHASE_SECONDS, decode_ttft_attainment;
    TpotAttainment: DECODE, Seconds, Attainment, TOKEN_SECONDS, tpot_attainment;
    TtftOverride: NO_ROLE, Seconds, UserQuery, PHASE_SECONDS, ttft_seconds_override;
    TpotOverride: NO_ROLE, Seconds, UserQuery, TOKEN_SECONDS, tpot_seconds_override;
}

impl SignalName {
    /// Every signal, in the order of reports.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name as serialised.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether it is a sum over workers, so that a worker that is not scraped is missing in it.
    pub const fn is_sum(self) -> bool {
        matches!(self.kind(), Kind::Sum)
    }

    /// Whether the user's own query gives it.
    pub const fn is_override(self) -> bool {
        matches!(self.kind(), Kind::UserQuery)
    }

    /// Whether the gateway before the workers publishes it.
    pub const fn is_gateway(self) -> bool {
        self.role().is_none() && !self.is_override()
    }
}

impl Signals {
    /// Every single number with its name.
    pub fn numbers(&self) -> impl Iterator<Item = (SignalName, Reading)> {
        let number = |&name: &SignalName| match self.slot(name) {
            Slot::Number(reading) => Some((name, *reading)),
            Slot::Distribution(..) | Slot::Attainment(_) => None,
        };
        SignalName::ALL.iter().filter_map(number)
    }

    /// Every distribution with its name: over the rate window, and over the wide one.
    pub fn distributions(
        &self,
    ) -> impl Iterator<Item = (SignalName, &HistogramReading, &HistogramReading)> {
        let distribution = |&name: &SignalName| match self.slot(name) {
            Slot::Distribution(recent, wide) => Some((name, recent, wide)),
            Slot::Number(_) | Slot::Attainment(_) => None,
        };
        SignalName::ALL.iter().filter_map(distribution)
    }

    /// Rewrites every single number.
    pub(crate) fn update_numbers(&mut self, mut update: impl FnMut(SignalName, &mut Reading)) {
        for &name in SignalName::ALL {
            if let SlotMut::Number(reading) = self.slot_mut(name) {
                update(name, reading);
            }
        }
    }

    /// Rewrites every distribution, of whatever window.
    pub(crate) fn update_distributions(
        &mut self,
        mut update: impl FnMut(SignalName, &mut HistogramReading),
    ) {
        for &name in SignalName::ALL {
            match self.slot_mut(name) {
                SlotMut::Number(_) => {}
                SlotMut::Attainment(reading) => update(name, reading),
                SlotMut::Distribution(recent, wide) => {
                    update(name, recent);
                    update(name, wide);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Gap;

    #[test]
    fn names_are_spelt_as_they_are_serialised() {
        for name in SignalName::ALL {
            let text = serde_json::to_string(name).unwrap();
            assert_eq!(text, format!("\"{}\"", name.as_str()));
        }
    }

    #[test]
    fn every_reading_has_a_row() {
        let mut signals = Signals::default();
        signals.update_numbers(|_, reading| *reading = Reading::Unknown(Gap::Stale));
        signals.update_distributions(|_, reading| {
            *reading = HistogramReading::Unknown(Gap::Stale);
        });
        let text = serde_json::to_string(&signals).unwrap();
        assert!(!text.contains("notAsked"), "{text}");
    }

    #[test]
    fn a_signal_without_a_role_is_the_users_own_or_the_gateways() {
        for name in SignalName::ALL {
            let is_gateway = name.as_str().starts_with("gateway");
            assert_eq!(name.is_gateway(), is_gateway, "{name:?}");
            let has_no_role = name.is_override() || is_gateway;
            assert_eq!(name.role().is_none(), has_no_role, "{name:?}");
        }
    }
}
