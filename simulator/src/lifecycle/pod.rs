//! One replica from being asked for to being gone, as the API server would show it.
//!
//! A pod outlives the engines that run in it: an engine that crashed comes back in the same pod
//! under another name, so that its counters start over as they do after a restart. Whatever was
//! planned for a pod before its last change is void, which its epoch tells.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pd_core::Role;
use pd_core::role_state::StuckCause;

use super::cluster::Place;
use crate::time::{MINUTE, Nanos, SECOND};

/// The kubelet's first back-off of a container that ends or an image that cannot be pulled.
const BACK_OFF_FIRST: Nanos = 10 * SECOND;

/// Its longest.
const BACK_OFF_MAX: Nanos = 300 * SECOND;

/// A container that ran so long is started at once when it ends.
const BACK_OFF_FORGOTTEN: Nanos = 10 * MINUTE;

/// Where a pod that stays is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No node has room.
    Pending,
    /// On its way; its engine serves from then on.
    Starting { ready_at: Nanos },
    /// On its way to a failure that has not come yet.
    Failing,
    /// Waits for the kubelet to try again.
    BackOff(StuckCause),
    /// Its node is gone, which the API server may not have noticed.
    Lost { shown_ready: bool },
}

/// Why a pod leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Fewer replicas were asked for.
    ScaleDown,
    /// Its node is taken away.
    Reclaimed,
}

#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) number: u64,
    pub(super) role: Role,
    pub(super) name: String,
    /// Its engine, if it has one.
    pub(super) worker: Option<String>,
    pub(super) place: Place,
    pub(super) phase: Phase,
    pub(super) leaving: Option<Leaving>,
    pub(super) epoch: u32,
    /// Engines that ended in it since it last ran for long.
    crashes: u32,
    /// Failed pulls in a row.
    pulls: u32,
    /// Engines it has had.
    engines: u32,
}

impl Pod {
    pub(super) fn new(number: u64, role: Role, name: String) -> Self {
        Self {
            number,
            role,
            name,
            worker: None,
            place: Place::new(),
            phase: Phase::Pending,
            leaving: None,
            epoch: 0,
            crashes: 0,
            pulls: 0,
            engines: 0,
        }
    }

    /// Whether its engine serves and the API server says so.
    pub(super) fn serves(&self, now: Nanos) -> bool {
        self.leaving.is_none()
            && matches!(self.phase, Phase::Starting { ready_at } if ready_at <= now)
    }

    /// The name of its next engine.
    pub(super) fn name_engine(&mut self) -> String {
        let name = match self.engines {
            0 => self.name.clone(),
            restarts => format!("{}.r{restarts}", self.name),
        };
        self.engines += 1;
        self.worker = Some(name.clone());
        name
    }

    /// How long until the kubelet starts a container again that ended at `now`.
    pub(super) fn back_off(&mut self, now: Nanos) -> Nanos {
        if let Phase::Starting { ready_at } = self.phase
            && now.saturating_sub(ready_at) >= BACK_OFF_FORGOTTEN
        {
            self.crashes = 0;
        }
        self.crashes += 1;
        match self.crashes {
            1 => 0,
            crashes => doubled(crashes - 2),
        }
    }

    /// How long until the kubelet tries again to pull the image.
    pub(super) fn pull_back_off(&mut self) -> Nanos {
        self.pulls += 1;
        doubled(self.pulls - 1)
    }

    /// The image is there.
    pub(super) fn pulled(&mut self) {
        self.pulls = 0;
    }
}

fn doubled(times: u32) -> Nanos {
    let factor = 1_u64.checked_shl(times).unwrap_or(u64::MAX);
    BACK_OFF_FIRST.saturating_mul(factor).min(BACK_OFF_MAX)
}

/// The events of a pod by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// Its container ends before it is ready.
    Fails,
    /// The kubelet tries again.
    Retry,
    /// No new requests reach it any more.
    Drain,
    /// Its time to leave is over.
    Kill,
    /// The API server notices that its node is gone.
    Noticed,
    /// It is deleted because its node is gone.
    Evicted,
    /// Its node, by this number, comes back; of no pod in particular.
    NodeBack(usize),
}

/// A plan: when, the order of planning, the pod's number and epoch, and what.
type Plan = (Nanos, u64, u64, u32, Event);

/// Planned events, by time.
#[derive(Clone, Debug, Default)]
pub(super) struct Plans {
    planned: BinaryHeap<Reverse<Plan>>,
    count: u64,
}

impl Plans {
    /// Plans `event` for a pod, unless it changes before.
    pub(super) fn plan(&mut self, at: Nanos, pod: &Pod, event: Event) {
        self.push(at, pod.number, pod.epoch, event);
    }

    /// Plans the return of a node.
    pub(super) fn plan_node_back(&mut self, at: Nanos, node: usize) {
        self.push(at, u64::MAX, 0, Event::NodeBack(node));
    }

    fn push(&mut self, at: Nanos, pod: u64, epoch: u32, event: Event) {
        self.count += 1;
        self.planned
            .push(Reverse((at, self.count, pod, epoch, event)));
    }

    pub(super) fn next_at(&self) -> Option<Nanos> {
        self.planned.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next event at or before `now`: pod number, epoch, event.
    pub(super) fn take(&mut self, now: Nanos) -> Option<(u64, u32, Event)> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse((_, _, pod, epoch, event)) = self.planned.pop()?;
        Some((pod, epoch, event))
    }
}
