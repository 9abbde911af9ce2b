//! Faults of a world, and when they happen.
//!
//! A [`Fault`] strikes at a moment, lasts, and may come again; the [`Calendar`] tells which begins
//! or ends next. Faults that last are folded into [`Conditions`], one value that says what is wrong
//! at a moment, so that two of a kind that overlap are no special case: the worst counts, and
//! slowdowns multiply. Nothing here touches a worker, and nothing is drawn: who is struck is the
//! fleet's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pd_core::{PerRole, Role};

use crate::time::Nanos;

/// The effect of a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// Containers of serving pods end; the kubelet starts them again.
    Crash,
    /// Containers that start while it lasts end before they are ready, with this probability.
    StartFailure(f64),
    /// Images cannot be pulled while it lasts.
    ImagePullFailure,
    /// Nodes are gone at once; they come back when it ends.
    NodeFailure,
    /// Nodes are taken away after a notice; they come back when it ends.
    SpotReclaim {
        /// From the notice to the end of the nodes.
        notice: Nanos,
    },
    /// No pod is scheduled while the service holds so many GPUs or more.
    GpuScarcity(u32),
    /// Engines take so many times as long.
    Slowdown(f64),
    /// A worker's scrape is lost with this probability.
    ScrapeLoss(f64),
    /// Prometheus neither scrapes nor answers.
    PrometheusOutage,
}

/// One fault, which may strike again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// Its role.
    pub effect: Effect,
    /// When it first strikes, time of the run.
    pub at: Nanos,
    /// From one strike to the next; without, there is one. Above 0.
    pub every: Option<Nanos>,
    /// How long it lasts; without, for good.
    pub lasts: Option<Nanos>,
    /// Whom it strikes; without, both roles.
    pub role: Option<Role>,
    /// Share of those it may strike, 0 to 1; at least one is struck.
    pub share: f64,
}

impl Fault {
    /// Whether it strikes `role`.
    pub fn strikes(&self, role: Role) -> bool {
        self.role.is_none_or(|only| only == role)
    }
}

/// The faults of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// Probability that a start fails.
    pub start_failure_share: PerRole<f64>,
    /// Whether images cannot be pulled.
    pub image_pull_fails: PerRole<bool>,
    /// Most GPUs the service may hold when a pod is scheduled.
    pub gpus_max: Option<u32>,
    /// The engines' times, as multiples of those of the profile.
    pub slowdown: PerRole<f64>,
    /// Probability that a scrape is lost.
    pub scrape_loss_share: PerRole<f64>,
    /// Whether Prometheus is down.
    pub prometheus_down: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            start_failure_share: PerRole::default(),
            image_pull_fails: PerRole::default(),
            gpus_max: None,
            slowdown: PerRole::from_fn(|_| 1.0),
            scrape_loss_share: PerRole::default(),
            prometheus_down: false,
        }
    }
}

impl Conditions {
    /// These conditions and those that `fault` brings while it lasts.
    fn and(mut self, fault: &Fault) -> Self {
        match fault.effect {
            Effect::GpuScarcity(gpus) => {
                self.gpus_max = Some(self.gpus_max.map_or(gpus, |most| most.min(gpus)));
            }
            Effect::PrometheusOutage => self.prometheus_down = true,
            Effect::Crash | Effect::NodeFailure | Effect::SpotReclaim { .. } => {}
            Effect::StartFailure(_)
            | Effect::ImagePullFailure
            | Effect::Slowdown(_)
            | Effect::ScrapeLoss(_) => {
                for role in Role::ALL.into_iter().filter(|role| fault.strikes(*role)) {
                    self.strike(role, fault.effect);
                }
            }
        }
        self
    }

    fn strike(&mut self, role: Role, effect: Effect) {
        let worst = |so_far: &mut f64, share: f64| *so_far = so_far.max(share);
        match effect {
            Effect::StartFailure(share) => worst(&mut self.start_failure_share[role], share),
            Effect::ScrapeLoss(share) => worst(&mut self.scrape_loss_share[role], share),
            Effect::Slowdown(factor) => self.slowdown[role] *= factor,
            Effect::ImagePullFailure => self.image_pull_fails[role] = true,
            _ => {}
        }
    }
}

/// A fault that strikes, with its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strike {
    /// The fault.
    pub fault: Fault,
    /// When this strike ends, time of the run; never, without.
    pub ends_at: Option<Nanos>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Ends,
    Begins,
}

/// All faults of a run in order of time.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    faults: Vec<Fault>,
    coming: BinaryHeap<Reverse<(Nanos, Turn, usize)>>,
    /// How often each fault is present now: a strike may begin before the last one ended.
    present: Vec<u32>,
}

impl Calendar {
    /// The calendar of `faults`, before any.
    pub fn new(faults: Vec<Fault>) -> Self {
        let begins = faults.iter().enumerate();
        Self {
            coming: begins
                .map(|(index, fault)| Reverse((fault.at, Turn::Begins, index)))
                .collect(),
            present: vec![0; faults.len()],
            faults,
        }
    }

    /// When something begins or ends next, time of the run.
    pub fn next_at(&self) -> Option<Nanos> {
        self.coming.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next turn at or before `now`; the strike if one begins.
    pub fn take(&mut self, now: Nanos) -> Option<Option<Strike>> {
        let due = self
            .coming
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= now);
        if !due {
            return None;
        }
        let Reverse((at, turn, index)) = self.coming.pop()?;
        let fault = *self.faults.get(index)?;
        let present = self.present.get_mut(index)?;
        if turn == Turn::Ends {
            *present = present.saturating_sub(1);
            return Some(None);
        }
        *present += 1;
        let ends_at = fault.lasts.map(|lasts| at.saturating_add(lasts));
        if let Some(ends_at) = ends_at {
            self.coming.push(Reverse((ends_at, Turn::Ends, index)));
        }
        if let Some(every) = fault.every {
            let next = at.saturating_add(every.max(1));
            self.coming.push(Reverse((next, Turn::Begins, index)));
        }
        Some(Some(Strike { fault, ends_at }))
    }

    /// The faults of this moment.
    pub fn conditions(&self) -> Conditions {
        self.faults
            .iter()
            .zip(&self.present)
            .filter(|(_, present)| **present > 0)
            .fold(Conditions::default(), |conditions, (fault, _)| {
                conditions.and(fault)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    fn fault(effect: Effect, at: Nanos, every: Option<Nanos>, lasts: Nanos) -> Fault {
        Fault {
            effect,
            at: at * SECOND,
            every: every.map(|every| every * SECOND),
            lasts: Some(lasts * SECOND),
            role: None,
            share: 0.0,
        }
    }

    /// Conditions at whole seconds.
    fn played(faults: Vec<Fault>, until: Nanos) -> Vec<Conditions> {
        let mut calendar = Calendar::new(faults);
        let seconds = 0..until;
        seconds
            .map(|second| {
                while calendar.take(second * SECOND).is_some() {}
                calendar.conditions()
            })
            .collect()
    }

    #[test]
    fn a_fault_comes_again_and_ends_each_time() {
        let outage = fault(Effect::PrometheusOutage, 2, Some(5), 2);
        let down: Vec<bool> = played(vec![outage], 10)
            .iter()
            .map(|at| at.prometheus_down)
            .collect();
        let want = [2, 3, 7, 8];
        let want: Vec<bool> = (0..10).map(|second| want.contains(&second)).collect();
        assert_eq!(down, want);
    }

    #[test]
    fn of_faults_that_overlap_the_worst_counts_and_slowdowns_multiply() {
        let prefill_only = Fault {
            role: Some(Role::Prefill),
            ..fault(Effect::Slowdown(2.0), 0, None, 9)
        };
        let all = vec![
            prefill_only,
            fault(Effect::Slowdown(1.5), 1, None, 9),
            fault(Effect::ScrapeLoss(0.2), 0, None, 9),
            fault(Effect::ScrapeLoss(0.6), 1, None, 1),
            fault(Effect::GpuScarcity(8), 0, None, 9),
            fault(Effect::GpuScarcity(4), 1, None, 1),
        ];
        let at = played(all, 3);
        let decode: Vec<f64> = at.iter().map(|at| at.slowdown.decode).collect();
        assert_eq!(decode, [1.0, 1.5, 1.5]);
        let prefill: Vec<f64> = at.iter().map(|at| at.slowdown.prefill).collect();
        assert_eq!(prefill, [2.0, 3.0, 3.0]);
        let losses: Vec<f64> = at.iter().map(|at| at.scrape_loss_share.decode).collect();
        assert_eq!(losses, [0.2, 0.6, 0.2]);
        let most: Vec<_> = at.iter().map(|at| at.gpus_max).collect();
        assert_eq!(most, [Some(8), Some(4), Some(8)]);
    }

    #[test]
    fn one_that_lasts_longer_than_its_period_stays() {
        let outage = fault(Effect::PrometheusOutage, 0, Some(2), 3);
        assert!(played(vec![outage], 20).iter().all(|at| at.prometheus_down));
    }
}
