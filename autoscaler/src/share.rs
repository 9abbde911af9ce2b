//! Each namespace's share of the reconciles that run at once.
//!
//! A namespace whose servers answer slowly, on purpose or not, would otherwise hold all of them.
//! Whoever is over its share comes back a moment later and holds nothing meanwhile.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// How many reconciles of each namespace run.
#[derive(Debug)]
pub struct Shares {
    most: u16,
    running: Mutex<HashMap<String, u16>>,
}

/// One running reconcile, until it is dropped.
#[derive(Debug)]
pub struct Running<'a> {
    shares: &'a Shares,
    namespace: String,
}

impl Shares {
    /// At most `most` at once for each namespace.
    pub fn new(most: u16) -> Self {
        Self {
            most,
            running: Mutex::default(),
        }
    }

    /// One more for `namespace`; nothing when its share is taken.
    pub fn enter(&self, namespace: &str) -> Option<Running<'_>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(namespace.to_owned()).or_default();
        (*count < self.most).then(|| {
            *count += 1;
            Running {
                shares: self,
                namespace: namespace.to_owned(),
            }
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let running = &self.shares.running;
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                running.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_at_its_share_waits_and_no_other_does() {
        let shares = Shares::new(2);
        let first = shares.enter("a");
        let _second = shares.enter("a").unwrap();
        assert!(first.is_some());
        assert!(shares.enter("a").is_none());
        assert!(shares.enter("b").is_some());
        drop(first);
        assert!(shares.enter("a").is_some());
    }

    #[test]
    fn a_namespace_without_a_reconcile_is_forgotten() {
        let shares = Shares::new(1);
        drop(shares.enter("a"));
        assert!(shares.running.lock().unwrap().is_empty());
    }
}
