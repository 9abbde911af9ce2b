//! `TokenScale`: arriving tokens per second over the token velocity of one replica.
//!
//! Rule: Lai et al., "`TokenScale`", arXiv 2512.03416: prefillers are the arriving prompt tokens
//! per second over the lesser of prefill and network velocity; decoders are the arriving prompt and
//! answer tokens per second over the decode velocity, the rate at which a decoder at its TPOT limit
//! releases the tokens of finished requests. The paper takes the answer's length from a predictor
//! by class of request; here it is the mean of the answers of the last minute. Velocities come from
//! the true profile at the mean lengths.
//!
//! Decisions are 5 s apart on the arrivals of the last 15 s; downwards the highest of a minute. The
//! paper's convertible decoders, which compute prompts in a burst, are an engine's feature and not
//! modelled, so this is less than the paper's system. Tuning divides both velocities.

use std::collections::VecDeque;

use pd_core::{PerRole, Role};

use super::engine_rates::{MeanTokens, decode_rps, prefill_seconds};
use super::horizontal::ceil;
use super::observation::per_second;
use super::{Autoscaler, Gateway, Observation, PolicyVerdict, Reads};
use crate::engine::Profile;
use crate::time::{MINUTE, Nanos, SECOND, seconds};

/// Time between two decisions.
pub const INTERVAL: Nanos = 5 * SECOND;

const ARRIVAL_WINDOW: Nanos = 15 * SECOND;
const LENGTH_WINDOW: Nanos = MINUTE;
const DOWN_WINDOW: Nanos = MINUTE;

/// Tokens per second that one replica of each role takes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Velocities {
    prefill: f64,
    decode: f64,
}

fn velocities(profile: &Profile, tpot_seconds: f64, tokens: MeanTokens) -> Velocities {
    let compute = tokens.input / prefill_seconds(profile, tokens.input).max(1e-9);
    let bytes_per_second = profile.kv_transfer_gigabytes_per_second * 1e9;
    let network = bytes_per_second / profile.kv_bytes_per_token.max(1e-9);
    Velocities {
        prefill: compute.min(network),
        decode: decode_rps(profile, tpot_seconds, tokens) * (tokens.input + tokens.output),
    }
}

/// Replicas for arrivals of `rps` requests per second, of so many tokens each.
fn sized(rps: f64, tokens: MeanTokens, velocities: Velocities) -> PerRole<u32> {
    PerRole {
        prefill: ceil(rps * tokens.input / velocities.prefill.max(1e-9)).max(1),
        decode: ceil(rps * (tokens.input + tokens.output) / velocities.decode.max(1e-9)).max(1),
    }
}

/// The policy.
#[derive(Clone, Debug)]
pub struct TokenscaleVelocity {
    profile: Profile,
    tpot_seconds: f64,
    aggressiveness: PerRole<f64>,
    seen: VecDeque<(Nanos, Gateway)>,
    wanted: VecDeque<(Nanos, PerRole<u32>)>,
}

impl TokenscaleVelocity {
    /// For engines of this profile, with the velocities divided by `aggressiveness`.
    pub fn new(profile: Profile, tpot_seconds: f64, aggressiveness: PerRole<f64>) -> Self {
        Self {
            profile,
            tpot_seconds,
            aggressiveness,
            seen: VecDeque::new(),
            wanted: VecDeque::new(),
        }
    }

    /// The arrivals within `window`, and the time they came in.
    fn within(&self, now: Nanos, window: Nanos) -> Option<(Gateway, Nanos)> {
        let (_, last) = self.seen.back()?;
        let (at, first) = self.seen.iter().find(|(at, _)| at + window >= now)?;
        (*at < now).then(|| (last.since(first), now - at))
    }

    fn wanted(&mut self, now: Nanos) -> Option<PerRole<u32>> {
        let (recent, span) = self.within(now, ARRIVAL_WINDOW)?;
        let (answered, _) = self.within(now, LENGTH_WINDOW)?;
        if recent.requests <= 0.0 {
            return Some(PerRole::from_fn(|_| 1));
        }
        let tokens = MeanTokens {
            input: recent.input_tokens / recent.requests,
            output: answered.mean_output_tokens()?,
        };
        let velocities = velocities(&self.profile, self.tpot_seconds, tokens);
        let velocities = Velocities {
            prefill: velocities.prefill / self.aggressiveness.prefill,
            decode: velocities.decode / self.aggressiveness.decode,
        };
        debug_assert!(seconds(span) > 0.0);
        Some(sized(per_second(recent.requests, span), tokens, velocities))
    }
}

impl Autoscaler for TokenscaleVelocity {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        self.seen.push_back((now, observation.gateway));
        while self
            .seen
            .front()
            .is_some_and(|(at, _)| *at + LENGTH_WINDOW < now)
        {
            self.seen.pop_front();
        }
        let Some(wanted) = self.wanted(now) else {
            return PolicyVerdict::of(PerRole::from_fn(|role| observation.current(role)));
        };
        self.wanted.push_back((now, wanted));
        while self
            .wanted
            .front()
            .is_some_and(|(at, _)| *at + DOWN_WINDOW < now)
        {
            self.wanted.pop_front();
        }
        PolicyVerdict::of(PerRole::from_fn(|role: Role| {
            let most = self.wanted.iter().map(|(_, wanted)| wanted[role]).max();
            let current = observation.current(role);
            let wanted = wanted[role];
            let wanted = if wanted < current {
                most.unwrap_or(wanted).min(current)
            } else {
                wanted
            };
            observation.bounded(role, wanted)
        }))
    }

    fn reads(&self) -> Reads {
        Reads::Workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: MeanTokens = MeanTokens {
        input: 2_000.0,
        output: 100.0,
    };

    #[test]
    fn velocities_follow_the_profile() {
        let got = velocities(&Profile::default(), 0.025, TOKENS);
        // 2000 tokens in 0.093712 s; a batch of 219 at 2050 tokens ends 87.7 requests a second.
        assert!((got.prefill - 21_342.0).abs() < 1.0, "{got:?}");
        assert!((got.decode / 2_100.0 - 87.8).abs() < 0.3, "{got:?}");
        let slow = Profile {
            kv_transfer_gigabytes_per_second: 1.0,
            ..Profile::default()
        };
        let network = velocities(&slow, 0.025, TOKENS).prefill;
        assert!((network - 1e9 / 163_840.0).abs() < 1e-6);
    }

    #[test]
    fn arriving_tokens_over_velocity_rounded_up() {
        let one = Velocities {
            prefill: 20_000.0,
            decode: 100_000.0,
        };
        for (rps, prefill, decode) in [(0.1, 1, 1), (10.0, 1, 1), (11.0, 2, 1), (100.0, 10, 3)] {
            assert_eq!(
                sized(rps, TOKENS, one),
                PerRole { prefill, decode },
                "{rps}"
            );
        }
    }
}
