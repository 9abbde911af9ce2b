//! A link that everything on it shares evenly: processor sharing.
//!
//! The link keeps one count: how much each transfer has been given that was there from the start. A
//! transfer that begins notes the count at which it will have all its bytes, and those counts never
//! change however many come and go. So the next to end is the least of them, a change costs the
//! logarithm of the transfers, and no other transfer is touched. Counts are whole numbers of
//! 2^-24 bytes, so that equal runs are equal everywhere; rounding loses less than one per change.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Transfer;
use crate::time::Nanos;

/// Counts per byte, as a power of two.
const COUNT_BITS: u32 = 24;

/// A link and what is on it.
#[derive(Clone, Debug)]
pub(super) struct SharedLink {
    per_nano: u128,
    /// Time of `given`.
    at: Nanos,
    given: u128,
    /// By the count at which each has all its bytes.
    transfers: BinaryHeap<Reverse<(u128, Transfer)>>,
    waits_for: Option<Nanos>,
}

impl SharedLink {
    pub(super) fn new(gigabytes_per_second: f64) -> Self {
        // A gigabyte per second is a byte per nanosecond.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float-to-integer cast saturates, which makes any bandwidth a possible one"
        )]
        let per_nano = (gigabytes_per_second * f64::from(1_u32 << COUNT_BITS)).round() as u64;
        Self {
            per_nano: u128::from(per_nano.max(1)),
            at: 0,
            given: 0,
            transfers: BinaryHeap::new(),
            waits_for: None,
        }
    }

    pub(super) fn begin(&mut self, now: Nanos, transfer: Transfer) {
        self.advance(now);
        let counts = u128::from(transfer.bytes) << COUNT_BITS;
        self.transfers
            .push(Reverse((self.given + counts, transfer)));
    }

    /// When the next transfer ends, if that is not what was told last.
    pub(super) fn wake(&mut self) -> Option<Nanos> {
        let next = self.transfers.peek().map(|Reverse((end, _))| {
            let counts = end.saturating_sub(self.given) * self.transfers.len() as u128;
            let nanos = counts.div_ceil(self.per_nano);
            self.at
                .saturating_add(Nanos::try_from(nanos).unwrap_or(Nanos::MAX))
        });
        let known = std::mem::replace(&mut self.waits_for, next);
        next.filter(|_| known != next)
    }

    /// Whether this is the time that was told last.
    pub(super) fn is_due(&self, at: Nanos) -> bool {
        self.waits_for == Some(at)
    }

    /// Ends the next transfer that has all its bytes by now.
    pub(super) fn end(&mut self, now: Nanos) -> Option<Transfer> {
        self.advance(now);
        let Reverse((end, _)) = self.transfers.peek()?;
        if *end > self.given {
            return None;
        }
        self.transfers.pop().map(|Reverse((_, transfer))| transfer)
    }

    /// Takes off what `goes` is true of.
    pub(super) fn cut(&mut self, now: Nanos, goes: impl Fn(&Transfer) -> bool) -> Vec<Transfer> {
        self.advance(now);
        let (cut, kept) = std::mem::take(&mut self.transfers)
            .into_iter()
            .partition::<Vec<_>, _>(|Reverse((_, transfer))| goes(transfer));
        self.transfers = kept.into();
        cut.into_iter()
            .map(|Reverse((_, transfer))| transfer)
            .collect()
    }

    fn advance(&mut self, now: Nanos) {
        let elapsed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        if let Some(share) = u128::from(elapsed)
            .saturating_mul(self.per_nano)
            .checked_div(self.transfers.len() as u128)
        {
            self.given += share;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::MILLISECOND;

    fn transfer(slot: u32, bytes: u64) -> Transfer {
        Transfer {
            slot,
            place: 0,
            number: 1,
            bytes,
        }
    }

    /// Begins each (time, bytes) and gives the time at which each ended, by slot.
    fn played(gigabytes_per_second: f64, begins: &[(Nanos, u64)]) -> Vec<Nanos> {
        let mut link = SharedLink::new(gigabytes_per_second);
        let mut ends = vec![0; begins.len()];
        let mut wake = None;
        let mut advance = |link: &mut SharedLink, until: Nanos, wake: &mut Option<Nanos>| {
            while let Some(at) = wake.filter(|at| *at <= until) {
                assert!(link.is_due(at));
                while let Some(ended) = link.end(at) {
                    ends[ended.slot as usize] = at;
                }
                *wake = link.wake();
            }
        };
        for (slot, &(at, bytes)) in (0..).zip(begins) {
            advance(&mut link, at, &mut wake);
            link.begin(at, transfer(slot, bytes));
            wake = link.wake().or(wake);
        }
        advance(&mut link, Nanos::MAX, &mut wake);
        assert!(link.transfers.is_empty());
        ends
    }

    /// The same in steps of a microsecond: in each, every transfer present gets an even share.
    fn stepped(gigabytes_per_second: f64, begins: &[(Nanos, u64)]) -> Vec<Nanos> {
        const STEP: Nanos = 1_000;
        let mut rest: Vec<_> = begins.iter().map(|(_, bytes)| *bytes as f64).collect();
        let mut ends = vec![0; begins.len()];
        let mut now = 0;
        while rest.iter().any(|rest| *rest > 0.0) {
            let present: Vec<_> = (0..begins.len())
                .filter(|index| begins[*index].0 <= now && rest[*index] > 0.0)
                .collect();
            for &index in &present {
                rest[index] -= gigabytes_per_second * STEP as f64 / present.len() as f64;
                if rest[index] <= 0.0 {
                    ends[index] = now + STEP;
                }
            }
            now += STEP;
        }
        ends
    }

    fn begins() -> impl Strategy<Value = Vec<(Nanos, u64)>> {
        let one = (0..4 * MILLISECOND, 1..40_000_000u64);
        prop::collection::vec(one, 1..12).prop_map(|mut begins| {
            begins.sort_unstable();
            begins
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

        #[test]
        fn transfers_end_when_small_steps_of_even_shares_say(begins in begins(), speed in 5.0..50.0f64) {
            // A step's rounding moves one transfer, and through it at most each of the others.
            let tolerance = 2_000 * begins.len() as u64;
            for (one, other) in played(speed, &begins).iter().zip(stepped(speed, &begins)) {
                prop_assert!(one.abs_diff(other) <= tolerance, "{one} against {other}");
            }
        }

        #[test]
        fn the_link_never_sends_more_than_it_can(begins in begins(), speed in 5.0..50.0f64) {
            let last = played(speed, &begins).into_iter().max().unwrap_or(0);
            let bytes: u64 = begins.iter().map(|(_, bytes)| bytes).sum();
            prop_assert!(bytes as f64 <= speed * (last - begins[0].0) as f64 * (1.0 + 1e-6) + 1.0);
        }
    }

    #[test]
    fn two_at_once_take_twice_as_long_and_the_longer_is_alone_at_the_end() {
        // 10 bytes a nanosecond: 2 ms each at half the speed, then the last 10 MB alone in 1 ms.
        let ends = played(10.0, &[(0, 10_000_000), (0, 20_000_000)]);
        assert_eq!(ends, [2 * MILLISECOND, 3 * MILLISECOND]);
    }

    #[test]
    fn a_transfer_alone_takes_bytes_over_bandwidth() {
        assert_eq!(played(25.0, &[(7, 25_000_000)]), [7 + MILLISECOND]);
        assert_eq!(played(25.0, &[(7, 0)]), [7]);
    }

    #[test]
    fn what_is_cut_leaves_its_share_to_the_others() {
        let mut link = SharedLink::new(10.0);
        link.begin(0, transfer(0, 10_000_000));
        link.begin(0, transfer(1, 10_000_000));
        let cut = link.cut(MILLISECOND, |transfer| transfer.slot == 0);
        assert_eq!(cut.len(), 1);
        // Half of the second is sent, and the other half goes alone.
        assert_eq!(link.wake(), Some(MILLISECOND + MILLISECOND / 2));
    }
}
