//! The planned events of a service, in order: by time, and at one time in the order of planning.

use super::Role;
use crate::engine::request::Slot;
use crate::time::Nanos;

/// The planned events of the service.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Ready { role: Role, place: u32, number: u32 },
    PrefillEnds { place: u32, number: u32 },
    TransferEnds { link: u32 },
    KvArrives { place: u32, number: u32, slot: Slot },
    BatchChanges { place: u32, number: u32 },
}

/// An event with its time; the order of planning settles equal times.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedEvent {
    pub(super) at: Nanos,
    pub(super) order: u64,
    pub(super) event: Event,
}

impl PartialEq for PlannedEvent {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PlannedEvent {}

impl PartialOrd for PlannedEvent {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PlannedEvent {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
