//! The names that are left to do, and when: pure, so that retries can be tested without a cluster.
//!
//! A [`Backlog`] holds names. One that fails comes back after a pause that doubles, one that is
//! reported again while it waits does not come back sooner: a node that changes every second must
//! not turn a refusal into a storm. Time is an argument.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Pause after the first failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Names with work left.
#[derive(Debug, Default)]
pub struct Backlog {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    due: Instant,
    failures: u32,
}

impl Backlog {
    /// Adds work, due now. What waits already goes on waiting.
    pub fn add(&mut self, name: &str, now: Instant) {
        if !self.entries.contains_key(name) {
            let entry = Entry {
                due: now,
                failures: 0,
            };
            self.entries.insert(name.to_owned(), entry);
        }
    }

    /// Forgets work that is done, or not needed any more.
    pub fn done(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Puts work off after a failure, and returns how many there were in a row.
    pub fn failed(&mut self, name: &str, now: Instant) -> u32 {
        let Some(entry) = self.entries.get_mut(name) else {
            return 0;
        };
        let doublings = entry.failures.min(16);
        let pause = PAUSES.0.saturating_mul(1 << doublings).min(PAUSES.1);
        entry.failures = entry.failures.saturating_add(1);
        entry.due = now + pause;
        entry.failures
    }

    /// Puts work off without counting a failure: somebody else was faster.
    pub fn put_off(&mut self, name: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.due = now + PAUSES.0;
        }
    }

    /// The names due, the longest due first, at most `count`.
    pub fn due(&self, now: Instant, count: usize) -> Vec<String> {
        let mut due: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.due <= now)
            .collect();
        due.sort_by_key(|(_, entry)| entry.due);
        due.truncate(count);
        due.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// When there is something to do; nothing if nothing is left.
    pub fn next_due(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.due).min()
    }

    /// Every name with work left.
    pub fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// How many names have work left.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_wait_longer_each_time_and_being_reported_again_is_no_short_cut() {
        let now = Instant::now();
        let mut backlog = Backlog::default();
        backlog.add("a", now);
        assert_eq!(backlog.due(now, 9), ["a"]);
        for (failures, pause) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            assert_eq!(backlog.failed("a", now) as usize, failures + 1);
            backlog.add("a", now);
            assert_eq!(backlog.next_due(), Some(now + pause * SECOND));
        }
        assert!(backlog.due(now, 9).is_empty());
        backlog.done("a");
        backlog.add("a", now);
        assert_eq!(backlog.failed("a", now), 1);
        assert_eq!(backlog.failed("gone", now), 0);
    }

    #[test]
    fn the_longest_due_come_first() {
        let now = Instant::now();
        let mut backlog = Backlog::default();
        backlog.add("new", now + SECOND);
        backlog.add("old", now);
        assert_eq!(backlog.due(now + SECOND, 1), ["old"]);
        assert_eq!(backlog.len(), 2);
    }
}
