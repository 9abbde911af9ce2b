//! How much of a group is placed: more replicas come before everything but required levels.

use super::{counts::Counts, job::Job};
use crate::group::KINDS_MAX;

/// One, as shares of replicas are compared: fine enough that shares of up to 4,096 differ.
pub(crate) const WHOLE: u64 = 1_000_000_000;

/// Which replicas are placed: the larger, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Extent {
    /// The smallest share of its desired replicas that a role has.
    worst: u64,
    /// All shares together.
    sum: u64,
    /// The pods.
    pub(crate) pods: Counts,
}

/// The replicas that `counts` hold, if a placement of them is accepted; `must` are pods that run
/// and stay.
pub(crate) fn extent(job: &Job, must: &Counts, counts: &Counts) -> Option<Extent> {
    let share = |role: usize, replicas: u32| {
        u64::from(replicas) * WHOLE / u64::from(job.roles[role].desired.max(1))
    };
    let mut replicas = [0_u32; KINDS_MAX];
    let mut worst = None::<(u32, u32)>;
    for (role, rule) in job.roles.iter().enumerate() {
        replicas[role] = job.replicas(role, counts).min(rule.desired);
        let is_worse = worst.is_none_or(|(some, of)| {
            u64::from(replicas[role]) * u64::from(of) < u64::from(some) * u64::from(rule.desired)
        });
        if is_worse {
            worst = Some((replicas[role], rule.desired));
        }
    }
    let (some, of) = worst?;
    for (role, rule) in job.roles.iter().enumerate() {
        let begun = rule.begun.max(job.replicas_begun(role, must));
        let least = rule.least.max(begun);
        if job.lockstep {
            let even = (u64::from(some) * u64::from(rule.desired)).div_ceil(u64::from(of.max(1)));
            let even = u32::try_from(even).unwrap_or(u32::MAX);
            replicas[role] = replicas[role].min(even.max(least));
        }
        if replicas[role] < least {
            return None;
        }
    }
    let shares = (0..job.roles.len()).map(|role| share(role, replicas[role]));
    Some(Extent {
        worst: shares.clone().min().unwrap_or(0),
        sum: shares.sum(),
        pods: job.pods(|role| replicas[role]),
    })
}
