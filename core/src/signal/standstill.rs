//! Gauges that stand still while no counter moves.
//!
//! Every request that runs on a decode worker gets a token with each step, many times a second. An
//! engine that lost its clients at once may keep the number of running requests for ever, since it
//! counts them when it makes a step and makes none. Running requests without a token for minutes
//! contradict the counters, and the counters are right: the gauges are then taken for what they
//! would be in a service that does nothing. No role goes to zero on that, and nothing is bought.

use std::time::Duration;

use super::{Reading, Signals};
use crate::time::Timestamp;

/// For how long no token may come although requests run: steps take a second at the very most, and
/// a window of rates is a few minutes at most.
pub const STANDSTILL: Duration = Duration::from_mins(5);

impl Signals {
    /// Whether decode workers claim requests and generate nothing.
    pub fn stands_still(&self) -> bool {
        let claimed = [
            self.running_requests.decode,
            self.waiting_requests.decode,
            self.decode_kv_usage,
        ];
        self.output_token_rate_tps == Reading::KnownZero
            && self.decode_completion_rate_rps.known() == Some(0.0)
            && self.prefill_completion_rate_rps.known() == Some(0.0)
            && claimed
                .iter()
                .any(|reading| reading.known().is_some_and(|claimed| claimed > 0.0))
    }

    /// These signals without the gauges that nothing moves.
    #[must_use]
    pub fn without_standing_gauges(&self) -> Self {
        let mut moving = self.clone();
        for gauge in [
            &mut moving.running_requests.decode,
            &mut moving.waiting_requests.decode,
            &mut moving.decode_deferred_requests,
            &mut moving.decode_kv_usage,
            &mut moving.running_requests.prefill,
            &mut moving.waiting_requests.prefill,
        ] {
            if gauge.known().is_some() {
                *gauge = Reading::Value(0.0);
            }
        }
        moving
    }
}

/// Since when the gauges stand still; nothing while they do not. Takes in how they are now.
pub fn standing_since(
    signals: &Signals,
    memory: &mut Option<Timestamp>,
    now: Timestamp,
) -> Option<Duration> {
    if !signals.stands_still() {
        *memory = None;
        return None;
    }
    let since = *memory.get_or_insert(now);
    Some(now.since(since))
}
