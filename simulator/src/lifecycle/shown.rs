//! The pods as others know them: the API server's picture, which is not how the engines are.
//!
//! A pod whose node is gone is ready until somebody notices, and one that was deleted may still
//! take requests. Causes are told by the rule of the controller: the most common one speaks for
//! all.

use pd_core::Role;
use pd_core::role_state::StuckCause;

use super::Fleet;
use super::pod::{Leaving, Phase, Pod};
use crate::time::Nanos;
use crate::world::Replicas;

impl Fleet {
    /// Replicas of a role as the API server shows them.
    pub fn replicas(&self, role: Role, now: Nanos) -> Replicas {
        let mut replicas = Replicas {
            desired: self.desired[role],
            ..Replicas::default()
        };
        for pod in self.pods.iter().filter(|pod| pod.role == role) {
            let count = match (pod.leaving, pod.phase) {
                (Some(_), _) => &mut replicas.draining,
                (None, Phase::Pending) => &mut replicas.pending,
                (None, Phase::Lost { shown_ready: true }) => &mut replicas.ready,
                (None, Phase::Starting { ready_at }) if ready_at <= now => &mut replicas.ready,
                (None, _) => &mut replicas.starting,
            };
            *count += 1;
        }
        replicas
    }

    /// Replicas that do not serve and why, as the controller counts them: those that find no node
    /// alone, else the broken ones with their most common cause.
    pub fn stuck(&self, role: Role) -> Option<(u32, StuckCause)> {
        let causes = [
            StuckCause::Unschedulable,
            StuckCause::ImagePull,
            StuckCause::CrashLoop,
        ];
        let count = |cause| {
            let stuck = self.pods.iter().filter(|pod| {
                let is = match pod.phase {
                    Phase::Pending => Some(StuckCause::Unschedulable),
                    Phase::BackOff(cause) => Some(cause),
                    _ => None,
                };
                pod.role == role && pod.leaving.is_none() && is == Some(cause)
            });
            u32::try_from(stuck.count()).unwrap_or(u32::MAX)
        };
        let counts = causes.map(count);
        if counts[0] > 0 {
            return Some((counts[0], causes[0]));
        }
        let most = counts.iter().copied().max()?;
        let at = counts.iter().position(|count| *count == most)?;
        let all = counts.iter().sum::<u32>();
        (all > 0).then_some((all, causes[at]))
    }

    /// Engines that are gone, while their pods are still shown as ready.
    pub fn ghosts(&self) -> impl Iterator<Item = &str> {
        self.pods
            .iter()
            .filter(|pod| pod.leaving.is_none() && pod.phase == Phase::Lost { shown_ready: true })
            .filter_map(|pod| pod.worker.as_deref())
    }

    /// Engines that still take requests, while their pods are shown as leaving.
    pub fn deleted(&self) -> impl Iterator<Item = &str> {
        self.pods
            .iter()
            .filter(|pod| pod.leaving.is_some())
            .filter_map(|pod| pod.worker.as_deref())
    }

    /// Pods on their way out because of a fault; nobody's decision holds their GPUs.
    pub fn reclaimed(&self, role: Role) -> u32 {
        let leave = |pod: &&Pod| pod.role == role && pod.leaving == Some(Leaving::Reclaimed);
        u32::try_from(self.pods.iter().filter(leave).count()).unwrap_or(u32::MAX)
    }
}
