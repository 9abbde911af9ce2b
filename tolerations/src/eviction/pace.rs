//! How many evictions a domain takes: a token bucket per value of a topology label, on the caller's time.
//!
//! A bucket is one point in time, the moment at which it would be full again (the generic cell rate algorithm): every
//! eviction moves it by the interval, and one is allowed while it is less than a burst ahead. Whole numbers only, so that
//! the same calls give the same answers on every machine. A group that is larger than the burst goes when the bucket is
//! full, and all that follows waits for what it took beyond.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::time::{later, since};

/// A pace: one eviction each `interval`, `burst` of them at once after a calm time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time after which one more is allowed. Zero is no limit.
    pub interval: Duration,
    /// How many may go at once; zero counts as one.
    pub burst: u32,
}

/// The buckets of all domains.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    pace: Option<Pace>,
    full_at: BTreeMap<String, Timestamp>,
}

impl Buckets {
    /// Full buckets; no limit without a pace.
    pub const fn new(pace: Option<Pace>) -> Self {
        Self {
            pace,
            full_at: BTreeMap::new(),
        }
    }

    /// Takes `count` evictions of `domain` at `now`, or says when they can be had if nobody else takes them.
    pub fn take(&mut self, domain: &str, count: u32, now: Timestamp) -> Result<(), Timestamp> {
        let Some(pace) = self.pace.filter(|pace| !pace.interval.is_zero()) else {
            return Ok(());
        };
        // A full bucket is as good as none.
        self.full_at.retain(|_, full_at| *full_at > now);
        let full_at = self.full_at.get(domain).copied().unwrap_or(now);
        let burst = pace.burst.max(1);
        let ahead = pace.interval.saturating_mul(burst.saturating_sub(count));
        let wait = since(full_at, now).saturating_sub(ahead);
        if wait > Duration::ZERO {
            return Err(later(now, wait));
        }
        let full_at = later(full_at, pace.interval.saturating_mul(count));
        self.full_at.insert(domain.to_owned(), full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 0).unwrap()
    }

    fn buckets(interval: u64, burst: u32) -> Buckets {
        Buckets::new(Some(Pace {
            interval: Duration::from_secs(interval),
            burst,
        }))
    }

    /// Takes as soon as it can, and says when that was.
    fn taken(buckets: &mut Buckets, count: u32, mut now: i64) -> i64 {
        while let Err(then) = buckets.take("a", count, at(now)) {
            assert!(then > at(now));
            now = then.as_second();
        }
        now
    }

    #[rstest]
    #[case::one_by_one(1, &[1, 1, 1], &[0, 10, 20])]
    #[case::a_burst_first(2, &[1, 1, 1, 1], &[0, 0, 10, 20])]
    #[case::a_group_takes_its_number(3, &[2, 2], &[0, 10])]
    #[case::a_group_larger_than_the_burst_waits_for_a_full_bucket(2, &[1, 5, 1], &[0, 10, 50])]
    #[case::no_burst_counts_as_one(0, &[1, 1], &[0, 10])]
    fn evictions_keep_the_pace(#[case] burst: u32, #[case] counts: &[u32], #[case] want: &[i64]) {
        let mut buckets = buckets(10, burst);
        let mut now = 0;
        let got: Vec<i64> = counts
            .iter()
            .map(|count| {
                now = taken(&mut buckets, *count, now);
                now
            })
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn domains_have_buckets_of_their_own_and_no_pace_is_no_limit() {
        let mut limited = buckets(10, 1);
        limited.take("a", 1, at(0)).unwrap();
        limited.take("b", 1, at(0)).unwrap();
        assert_eq!(limited.take("a", 1, at(3)), Err(at(10)));
        let mut free = Buckets::new(None);
        assert!((0..1_000).all(|_| free.take("a", u32::MAX, at(0)).is_ok()));
        let mut absurd = buckets(u64::MAX, u32::MAX);
        absurd.take("a", u32::MAX, Timestamp::MAX).unwrap();
    }

    proptest! {
        /// In every window no more go than the burst and what the window refills.
        #[test]
        fn no_window_has_more_than_its_share(
            burst in 1_u32..5, interval in 1_u64..20, gaps in prop::collection::vec(0_i64..30, 1..60),
        ) {
            let mut buckets = buckets(interval, burst);
            let (mut now, mut taken) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                if buckets.take("a", 1, at(now)).is_ok() {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (count, to) in taken[first..].iter().enumerate() {
                    let refilled = u64::try_from(to - from).unwrap() / interval;
                    prop_assert!(u64::try_from(count + 1).unwrap() <= u64::from(burst) + refilled);
                }
            }
        }
    }
}
