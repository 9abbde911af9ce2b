//! `HeteroScale` (ByteDance): decode tokens per second scale both pools at a fixed P:D ratio.
//!
//! Rule: Li et al., "Taming the Chaos", arXiv 2508.19559: proportional control on decode TPS per
//! instance against a target, prefill following at a fixed ratio, and latency only as negative
//! feedback. The paper gives no numbers for the controller; a third-party implementation uses a
//! dead band of 10 % and adds 20 % when TBT exceeds 1.2 times its limit, and so does this one.
//! Decisions are a minute apart, on the mean of that minute; downwards the highest of five minutes,
//! as its cool-down.
//!
//! Target and ratio have to be profiled. They get hindsight: the TPS that one replica gives at the
//! TPOT limit and the mean context of the very trace, used to 90 %, and the ratio of the fewest
//! fixed replicas that attain the objective on it. These are *whole* replicas, as whoever profiles
//! a service runs whole workers: a ratio of mean demands would buy nine prefill workers for the one
//! decode worker of which a seventh is needed. Tuning divides the target and multiplies the ratio.

use std::collections::{BTreeMap, VecDeque};

use pd_core::{PerRole, Role};

use super::horizontal::ceil;
use super::observation::per_second;
use super::{Autoscaler, Gateway, Observation, PolicyVerdict, Reads};
use crate::time::{MINUTE, Nanos};

/// Time between two decisions.
pub const INTERVAL: Nanos = MINUTE;

const DEAD_BAND: f64 = 0.1;
const TBT_GUARD: f64 = 1.2;
const TBT_STEP: f64 = 1.2;
const COOLDOWN: Nanos = 5 * MINUTE;

/// The profile that an operator measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profiled {
    /// Output tokens per second of one decode replica that are aimed at.
    pub decode_tps: f64,
    /// Prefill replicas per decode replica.
    pub prefill_per_decode: f64,
    /// Limit of the time between tokens, seconds.
    pub tbt_seconds: f64,
}

/// Decode replicas for `tps` in all.
fn decode_replicas(current: u32, tps: f64, target_tps: f64, tbt_over_limit: f64) -> u32 {
    let here = f64::from(current.max(1));
    let ratio = tps / (target_tps * here);
    let by_tps = if (ratio - 1.0).abs() <= DEAD_BAND {
        current
    } else {
        ceil(tps / target_tps)
    };
    if tbt_over_limit > TBT_GUARD {
        by_tps.max(ceil(here * TBT_STEP))
    } else {
        by_tps
    }
}

/// The policy.
#[derive(Clone, Debug)]
pub struct HeteroscaleFixedRatio {
    profiled: Profiled,
    generated: BTreeMap<String, f64>,
    before: Option<Gateway>,
    recommended: VecDeque<(Nanos, u32)>,
}

impl HeteroscaleFixedRatio {
    /// With the target divided by decode's aggressiveness and the ratio multiplied by prefill's.
    pub fn new(profiled: Profiled, aggressiveness: PerRole<f64>) -> Self {
        Self {
            profiled: Profiled {
                decode_tps: profiled.decode_tps / aggressiveness.decode,
                prefill_per_decode: profiled.prefill_per_decode * aggressiveness.prefill,
                ..profiled
            },
            generated: BTreeMap::new(),
            before: None,
            recommended: VecDeque::new(),
        }
    }

    /// Tokens generated since the decision before, by workers that still answer.
    fn generated(&mut self, observation: &Observation) -> f64 {
        let mut total = 0.0;
        let mut seen = BTreeMap::new();
        for worker in &observation.workers.decode {
            let before = self.generated.get(&worker.name).copied().unwrap_or(0.0);
            total += worker.generated_tokens - before;
            seen.insert(worker.name.clone(), worker.generated_tokens);
        }
        self.generated = seen;
        total
    }
}

impl Autoscaler for HeteroscaleFixedRatio {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let generated = self.generated(observation);
        let Some(before) = self.before.replace(observation.gateway) else {
            return PolicyVerdict::of(PerRole::from_fn(|role| observation.current(role)));
        };
        let recent = observation.gateway.since(&before);
        let tbt = recent.mean_tpot_seconds().unwrap_or(0.0) / self.profiled.tbt_seconds;
        let current = observation.current(Role::Decode);
        let tps = per_second(generated, INTERVAL);
        let wanted = decode_replicas(current, tps, self.profiled.decode_tps, tbt);
        self.recommended.push_back((now, wanted));
        while self
            .recommended
            .front()
            .is_some_and(|(at, _)| *at + COOLDOWN < now)
        {
            self.recommended.pop_front();
        }
        let highest = self.recommended.iter().map(|(_, count)| *count).max();
        let decode = if wanted < current {
            highest.unwrap_or(wanted).min(current)
        } else {
            wanted
        };
        let decode = observation.bounded(Role::Decode, decode);
        let prefill = ceil(f64::from(decode) * self.profiled.prefill_per_decode);
        PolicyVerdict::of(PerRole {
            prefill: observation.bounded(Role::Prefill, prefill),
            decode,
        })
    }

    fn reads(&self) -> Reads {
        Reads::Workers
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::observation::testing::{alike, observation};
    use super::*;

    #[rstest]
    #[case::at_target(4, 4_000.0, 1.0, 4)]
    #[case::inside_the_dead_band(4, 4_390.0, 1.0, 4)]
    #[case::above(4, 4_500.0, 1.0, 5)]
    #[case::below(4, 1_500.0, 1.0, 2)]
    #[case::slow_tokens_add_a_fifth(10, 10_000.0, 1.3, 12)]
    #[case::slightly_slow_tokens_add_nothing(10, 10_000.0, 1.2, 10)]
    fn proportional_to_decode_tps(
        #[case] current: u32,
        #[case] tps: f64,
        #[case] tbt: f64,
        #[case] want: u32,
    ) {
        assert_eq!(decode_replicas(current, tps, 1_000.0, tbt), want);
    }

    #[test]
    fn prefill_follows_at_the_ratio() {
        let profiled = Profiled {
            decode_tps: 1_000.0,
            prefill_per_decode: 2.5,
            tbt_seconds: 0.025,
        };
        let as_is = PerRole {
            prefill: 1.0,
            decode: 1.0,
        };
        let mut policy = HeteroscaleFixedRatio::new(profiled, as_is);
        let mut seen = observation(PerRole {
            prefill: alike(1, 0.0, 0.0, 0.0),
            decode: alike(1, 10.0, 0.0, 0.1),
        });
        policy.decide(&seen, 0);
        seen.workers.decode[0].generated_tokens = 60.0 * 2_500.0;
        let replicas = policy.decide(&seen, MINUTE).replicas;
        assert_eq!(
            replicas,
            PerRole {
                prefill: 8,
                decode: 3
            }
        );
    }
}
