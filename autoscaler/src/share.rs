//! Each namespace's share of the reconciles that run at once.
//!
//! A namespace whose servers answer slowly, on purpose or not, would otherwise hold all of them.
//! Whoever is over its share comes back a moment later and holds nothing meanwhile. Objects of one
//! namespace take turns, so that slow ones among them keep no other waiting for ever.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use tokio::time::Instant;

use crate::lock::locked;

/// How soon to come back when the share is taken.
pub const TURN_AFTER: Duration = Duration::from_secs(1);

/// Who has not come back for so long has lost its turn: it may have been deleted.
const TURN_LOST: Duration = TURN_AFTER.saturating_mul(3);

/// How many reconciles of each namespace run, and which wait.
#[derive(Debug)]
pub struct Shares {
    most: u16,
    namespaces: Mutex<HashMap<String, Namespace>>,
}

#[derive(Debug, Default)]
struct Namespace {
    running: u16,
    /// Those that wait, in the order of their turns, and when each came last.
    waiting: VecDeque<(String, Instant)>,
}

/// One running reconcile, until it is dropped.
#[derive(Debug)]
pub struct Running<'a> {
    shares: &'a Shares,
    namespace: String,
}

impl Namespace {
    /// Whether it is the turn of `name`, of which at most `most` run.
    fn enter(&mut self, name: &str, most: u16, now: Instant) -> bool {
        self.waiting
            .retain(|(_, at)| now.saturating_duration_since(*at) < TURN_LOST);
        let place = self.waiting.iter().position(|(other, _)| other == name);
        let ahead = place.unwrap_or(self.waiting.len());
        let is_its_turn = usize::from(self.running) + ahead < usize::from(most);
        match (is_its_turn, place) {
            (true, Some(place)) => drop(self.waiting.remove(place)),
            (true, None) => {}
            (false, Some(place)) => self.waiting[place].1 = now,
            (false, None) => self.waiting.push_back((name.to_owned(), now)),
        }
        self.running += u16::from(is_its_turn);
        is_its_turn
    }
}

impl Shares {
    /// At most `most` at once for each namespace.
    pub fn new(most: u16) -> Self {
        Self {
            most,
            namespaces: Mutex::default(),
        }
    }

    /// One more for `namespace`, of its object `name`; nothing when its share is taken, or others
    /// have waited longer.
    pub fn enter(&self, namespace: &str, name: &str) -> Option<Running<'_>> {
        let mut namespaces = locked(&self.namespaces);
        let own = namespaces.entry(namespace.to_owned()).or_default();
        own.enter(name, self.most, Instant::now()).then(|| Running {
            shares: self,
            namespace: namespace.to_owned(),
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut namespaces = locked(&self.shares.namespaces);
        if let Some(own) = namespaces.get_mut(&self.namespace) {
            own.running = own.running.saturating_sub(1);
            if own.running == 0 && own.waiting.is_empty() {
                namespaces.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_namespace_at_its_share_waits_and_no_other_does() {
        let shares = Shares::new(2);
        let first = shares.enter("a", "x");
        let _second = shares.enter("a", "y").unwrap();
        assert!(first.is_some());
        assert!(shares.enter("a", "z").is_none());
        assert!(shares.enter("b", "x").is_some());
        drop(first);
        assert!(shares.enter("a", "z").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_longest_is_next() {
        let shares = Shares::new(1);
        let running = shares.enter("a", "slow");
        assert!(shares.enter("a", "first").is_none());
        assert!(shares.enter("a", "second").is_none());
        drop(running);
        assert!(shares.enter("a", "slow").is_none());
        assert!(shares.enter("a", "second").is_none());
        assert!(shares.enter("a", "first").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_no_more_loses_its_turn() {
        let shares = Shares::new(1);
        let running = shares.enter("a", "x");
        assert!(shares.enter("a", "deleted").is_none());
        drop(running);
        assert!(shares.enter("a", "y").is_none());
        advance(TURN_LOST).await;
        assert!(shares.enter("a", "y").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_without_a_reconcile_is_forgotten() {
        let shares = Shares::new(1);
        drop(shares.enter("a", "x"));
        assert!(locked(&shares.namespaces).is_empty());
    }

    proptest! {
        /// Whatever the order in which objects come back within a second, none waits longer than
        /// all others have their turn once.
        #[test]
        fn objects_take_turns(
            most in 1u16..4, objects in 2usize..8,
            orders in prop::collection::vec(any::<u64>(), 60),
        ) {
            let mut own = Namespace::default();
            let mut missed = vec![0; objects];
            let mut now = Instant::now();
            for order in orders {
                own.running = 0;
                for index in 0..objects {
                    let object = (index + usize::try_from(order % 97).unwrap()) % objects;
                    let object = if order % 2 == 0 { object } else { objects - 1 - object };
                    let enters = own.enter(&object.to_string(), most, now);
                    missed[object] = if enters { 0 } else { missed[object] + 1 };
                }
                now += TURN_AFTER;
                let rounds = objects.div_ceil(usize::from(most));
                prop_assert!(missed.iter().all(|missed| *missed <= rounds), "{missed:?}");
            }
        }
    }
}
