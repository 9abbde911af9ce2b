//! How many evictions or writes are made: token buckets on the caller's time.
//!
//! A bucket is one point in time, the moment at which it would be full again (the generic cell rate
//! algorithm): every token moves it by the interval, and one is given while it is less than a burst
//! ahead. Whole numbers only, so that the same calls give the same answers on every machine. A
//! request larger than the burst is granted when the bucket is full, and all that follows waits for
//! what it took beyond.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::time::Moment;

/// A rate limit: one token each `interval`, `burst` of them at once after a calm time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Time after which one more token is given. Zero is no limit.
    pub interval: Duration,
    /// How many may be taken at once; zero counts as one.
    pub burst: u32,
}

impl RateLimit {
    /// `count` tokens in each `span`, at most `burst` of them at once; a count of zero counts as
    /// one.
    pub fn of(count: u32, span: Duration, burst: u32) -> Self {
        Self {
            interval: span / count.max(1),
            burst,
        }
    }
}

/// One token bucket. `T` is the caller's kind of time.
#[derive(Clone, Debug)]
pub struct Bucket<T> {
    limit: RateLimit,
    /// The moment at which it is full again; nothing while it is.
    full_at: Option<T>,
}

impl<T: Moment> Bucket<T> {
    /// A full bucket.
    pub const fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            full_at: None,
        }
    }

    /// How long after `now` it has `count` tokens, if nobody else takes any.
    pub fn wait(&self, count: u32, now: T) -> Duration {
        let ahead = self
            .full_at
            .map_or(Duration::ZERO, |at| at.elapsed_since(now));
        // A request beyond the burst waits for a full bucket, for more it never holds.
        let spare = self.limit.burst.max(1).saturating_sub(count);
        ahead.saturating_sub(self.limit.interval.saturating_mul(spare))
    }

    /// Takes `count` tokens at `now`, or says when they can be had if nobody else takes any.
    pub fn take(&mut self, count: u32, now: T) -> Result<(), T> {
        let wait = self.wait(count, now);
        if wait > Duration::ZERO {
            return Err(now.later(wait));
        }
        let from = self.full_at.filter(|at| *at > now).unwrap_or(now);
        self.full_at = Some(from.later(self.limit.interval.saturating_mul(count)));
        Ok(())
    }

    /// Whether it is full, and so as good as a new one.
    fn is_full(&self, now: T) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

/// A bucket for each value of a topology label.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    limit: Option<RateLimit>,
    by_domain: BTreeMap<String, Bucket<Timestamp>>,
}

impl Buckets {
    /// Full buckets; nothing is limited without a rate.
    pub const fn new(limit: Option<RateLimit>) -> Self {
        Self {
            limit,
            by_domain: BTreeMap::new(),
        }
    }

    /// Takes `count` evictions of `domain` at `now`, or says when they can be had if nobody else
    /// takes them.
    pub fn take(&mut self, domain: &str, count: u32, now: Timestamp) -> Result<(), Timestamp> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        self.by_domain.retain(|_, bucket| !bucket.is_full(now));
        let bucket = self
            .by_domain
            .entry(domain.to_owned())
            .or_insert_with(|| Bucket::new(limit));
        bucket.take(count, now)
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
        Buckets::new(Some(RateLimit {
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
    fn evictions_keep_the_rate(#[case] burst: u32, #[case] counts: &[u32], #[case] want: &[i64]) {
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
    fn domains_have_buckets_of_their_own_and_no_rate_is_no_limit() {
        let mut limited = buckets(10, 1);
        limited.take("a", 1, at(0)).unwrap();
        limited.take("b", 1, at(0)).unwrap();
        assert_eq!(limited.take("a", 1, at(3)), Err(at(10)));
        let mut free = Buckets::new(None);
        assert!((0..1_000).all(|_| free.take("a", u32::MAX, at(0)).is_ok()));
        let mut absurd = buckets(u64::MAX, u32::MAX);
        absurd.take("a", u32::MAX, Timestamp::MAX).unwrap();
    }

    #[test]
    fn a_rate_allows_a_burst_and_then_one_each_interval() {
        let second = Duration::from_secs(1);
        let start = Timestamp::UNIX_EPOCH;
        let mut bucket = Bucket::new(RateLimit::of(10, second, 5));
        let mut taken = 0;
        for tick in 0..=20 {
            let now = start + tick * second / 10;
            while bucket.take(1, now).is_ok() {
                taken += 1;
            }
        }
        assert_eq!(taken, 5 + 20);
        assert!(bucket.wait(1, start + 2 * second) > Duration::ZERO);
        // An idle hour saves no more than the burst.
        let later = start + Duration::from_hours(1);
        assert_eq!(
            (0..9).take_while(|_| bucket.take(1, later).is_ok()).count(),
            5
        );
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
