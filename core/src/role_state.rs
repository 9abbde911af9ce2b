//! One role's workload as it is at one moment, and why replicas of it do not come.
//!
//! Pods of a surge are neither replicas nor capacity twice. A rolling update runs pods beyond the
//! replicas requested, and takes them away again at its end. A pool will have the replicas
//! requested, as far as they serve. *Measurements*, such as a mean over workers, still belong to
//! all pods that were measured, and a total over them is that mean times the scraped pods, surge
//! included. Mixing the two is how a rollout looks like a need.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// One role's workload as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleState {
    /// Replicas requested: the target's `spec.replicas`.
    pub current: u32,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas that exist and do not serve yet.
    pub starting: u32,
    /// Replicas that are on their way out and still hold their GPUs.
    pub terminating: u32,
    /// GPUs one replica holds; 0 when it needs none.
    pub gpus_per_replica: u32,
    /// Replicas that exist, do not serve and will not without help, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<(u32, StuckCause)>,
    /// A change of the pods themselves is under way, so that old and new ones exist side by side.
    #[serde(default)]
    pub rolling_out: bool,
}

/// Why replicas do not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
pub enum StuckCause {
    /// The scheduler finds no node: the pod's `PodScheduled` condition says `Unschedulable`.
    Unschedulable,
    /// A `ResourceQuota` refuses the pods.
    QuotaExceeded,
    /// An image cannot be pulled.
    ImagePull,
    /// Containers start and end again and again.
    CrashLoop,
    /// The pods cannot be created for another reason, such as an admission webhook.
    CreateFailed,
    /// No cause is known, but they are far beyond the role's lead time.
    Late,
}

impl StuckCause {
    /// The name as shown in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a pod that is requested now would not come either. A pod that is broken says nothing
    /// about the next one.
    pub const fn foretells(self) -> bool {
        match self {
            Self::Unschedulable | Self::QuotaExceeded | Self::Late => true,
            Self::ImagePull | Self::CrashLoop | Self::CreateFailed => false,
        }
    }
}

impl RoleState {
    /// Replicas whose GPUs are or will be held: those that exist, or those requested if more, and
    /// those on their way out, which have left neither.
    pub fn holding(&self) -> u32 {
        let existing = self.ready.saturating_add(self.starting);
        existing.max(self.current).saturating_add(self.terminating)
    }

    /// Replicas that serve and stay: the capacity to size with. Surge pods are not in it.
    pub fn serving(&self) -> u32 {
        self.ready.min(self.current)
    }

    /// Pods beyond the replicas requested that are not on their way out yet. Also above zero in the
    /// moment after replicas were lowered.
    pub const fn surge(&self) -> u32 {
        self.ready
            .saturating_add(self.starting)
            .saturating_sub(self.current)
    }

    /// Whether the pods are being replaced: as reported, or as the numbers show, because new pods
    /// start although all that were requested serve, or more serve than were requested.
    ///
    /// A rollout without surge that nobody reports looks like lost pods that come back.
    pub const fn is_rolling_out(&self) -> bool {
        self.rolling_out || self.surge() > 0
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::steady(8, 8, 0, 8, 0)]
    #[case::surge_starts(8, 8, 2, 8, 2)]
    #[case::surge_serves(8, 10, 0, 8, 2)]
    #[case::old_pods_go_first(8, 6, 2, 6, 0)]
    #[case::growing(8, 5, 3, 5, 0)]
    #[case::requested_while_surging(12, 10, 2, 10, 0)]
    #[case::just_lowered(4, 8, 0, 4, 4)]
    #[case::nothing(0, 0, 0, 0, 0)]
    #[case::absurd(1, u32::MAX, u32::MAX, 1, u32::MAX - 1)]
    fn surge_pods_are_not_capacity(
        #[case] current: u32,
        #[case] ready: u32,
        #[case] starting: u32,
        #[case] want_serving: u32,
        #[case] want_surge: u32,
    ) {
        let state = RoleState {
            current,
            ready,
            starting,
            ..RoleState::default()
        };
        assert_eq!((state.serving(), state.surge()), (want_serving, want_surge));
        assert_eq!(state.is_rolling_out(), want_surge > 0);
    }
}
