//! Work that one replica was seen to fail at.
//!
//! A model that promises too much lowers a role, fails, raises it, and promises the same again:
//! nothing is learnt from a failure that is over before a window has settled. So the failure
//! itself is remembered: for hours, a replica is given less than what broke it. Then it is
//! forgotten, because the requests that made a replica slow may be gone. It is forgotten at once
//! when a replica does as much within the limit: what was done beats what was not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Share of the work that failed which is given to a replica.
const KEPT_BELOW: f64 = 0.95;

/// Time after which a failure is forgotten: four new tries a day are no flapping.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(6);

/// Work per replica that failed, if any did lately. Less than 100 bytes of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ceiling(Option<Failed>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failed {
    work_per_replica: f64,
    at: Timestamp,
}

impl Ceiling {
    /// Takes in that `work` failed on `replicas`.
    pub fn failed(&mut self, work: f64, replicas: u32, now: Timestamp) {
        let work_per_replica = work / f64::from(replicas);
        if work_per_replica.is_finite() && work_per_replica > 0.0 {
            self.0 = Some(Failed {
                work_per_replica,
                at: now,
            });
        }
    }

    /// Takes in that `work` was done within the limit on `replicas`.
    pub fn done(&mut self, work: f64, replicas: u32) {
        let work_per_replica = work / f64::from(replicas);
        self.0 = self
            .0
            .filter(|failed| failed.work_per_replica > work_per_replica);
    }

    /// Most work to give to one replica; nothing when none failed lately.
    pub fn work_per_replica(&self, now: Timestamp) -> Option<f64> {
        let failed = self.0?;
        let lately = now.since(failed.at) < FORGOTTEN_AFTER;
        lately.then_some(failed.work_per_replica * KEPT_BELOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> Timestamp {
        Timestamp::from_millis(0).plus(Duration::from_hours(hours))
    }

    #[test]
    fn what_broke_a_replica_is_not_given_to_it_again_until_hours_later() {
        let mut ceiling = Ceiling::default();
        assert_eq!(ceiling.work_per_replica(at(0)), None);
        ceiling.failed(300.0, 2, at(0));
        assert!(ceiling.work_per_replica(at(0)) < Some(150.0));
        assert!(ceiling.work_per_replica(at(5)) < Some(150.0));
        assert_eq!(ceiling.work_per_replica(at(6)), None);
    }

    #[test]
    fn a_replica_that_does_as_much_within_the_limit_lifts_it() {
        let mut ceiling = Ceiling::default();
        ceiling.failed(300.0, 2, at(0));
        ceiling.done(290.0, 2);
        assert!(ceiling.work_per_replica(at(0)).is_some());
        ceiling.done(300.0, 2);
        assert_eq!(ceiling.work_per_replica(at(0)), None);
    }

    #[test]
    fn nonsense_is_not_remembered() {
        let mut ceiling = Ceiling::default();
        for (work, replicas) in [(f64::NAN, 2), (-1.0, 2), (5.0, 0), (0.0, 1)] {
            ceiling.failed(work, replicas, at(0));
        }
        assert_eq!(ceiling, Ceiling::default());
    }
}
