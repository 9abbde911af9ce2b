//! Replicas that will not serve without help, by cause, and the words in which Kubernetes states
//! one.

use pd_core::role_state::StuckCause;

/// Causes, those first that say that new pods fail as well, and of those the ones that a person
/// would fix first; of several equally common ones the first is reported.
pub(crate) const CAUSES: [StuckCause; 5] = [
    StuckCause::QuotaExceeded,
    StuckCause::Unschedulable,
    StuckCause::ImagePull,
    StuckCause::CrashLoop,
    StuckCause::CreateFailed,
];

/// The condition of a pod that a placement group holds back: false while there is no place for it.
pub const PLACEMENT_CONDITION: &str = "pdautoscaler.io/placement";

/// The scheduling gate of a pod that waits in a queue of Kueue until there is quota for it. Every
/// pod of a queue has it at first; deadlines keep a short wait from counting.
const QUEUE_GATE: &str = "kueue.x-k8s.io/admission";

/// The cause that a scheduling gate stands for. Most stand for none: a gate is there on purpose,
/// and who set it may take it off at any moment.
pub fn cause_of_gate(gate: &str) -> Option<StuckCause> {
    (gate == QUEUE_GATE).then_some(StuckCause::QuotaExceeded)
}

/// Whether a condition of a pod, by its type, status and reason, says that no node takes the pod.
pub fn is_without_place(kind: &str, status: &str, reason: &str) -> bool {
    status == "False"
        && match kind {
            "PodScheduled" => reason == "Unschedulable",
            _ => kind == PLACEMENT_CONDITION,
        }
}

/// The cause for which a container waits, in the kubelet's words (`pkg/kubelet/images/types.go`,
/// `pkg/kubelet/container/sync_result.go`); nothing for one that just starts.
pub fn cause_of_wait(reason: &str) -> Option<StuckCause> {
    match reason {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Some(StuckCause::ImagePull),
        "CrashLoopBackOff" => Some(StuckCause::CrashLoop),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(StuckCause::CreateFailed)
        }
        _ => None,
    }
}

/// The cause for which pods cannot be created, by the API server's answer. The words are its own
/// admission of `ResourceQuota`.
pub fn cause_of_create_failure(message: &str) -> StuckCause {
    if message.contains("exceeded quota") {
        StuckCause::QuotaExceeded
    } else {
        StuckCause::CreateFailed
    }
}

/// Replicas in trouble, by cause.
#[derive(Clone, Debug, Default)]
pub struct Stuck([u32; CAUSES.len()]);

impl Stuck {
    /// So many more with this cause.
    pub fn add(&mut self, cause: StuckCause, replicas: u32) {
        if let Some(at) = CAUSES.iter().position(|known| *known == cause) {
            self.0[at] = self.0[at].saturating_add(replicas);
        }
    }

    /// How many, and the most common cause. Where new pods would not come either, only the replicas
    /// that show it: to the core these are another matter than broken ones.
    pub fn most(&self) -> Option<(u32, StuckCause)> {
        let of = |foretells: bool| {
            let counts = CAUSES.into_iter().zip(self.0);
            counts.filter(move |(cause, count)| *count > 0 && cause.foretells() == foretells)
        };
        let foretells = of(true).next().is_some();
        let total = of(foretells).fold(0_u32, |total, (_, count)| total.saturating_add(count));
        let most = of(foretells).map(|(_, count)| count).max()?;
        let (cause, _) = of(foretells).find(|(_, count)| *count == most)?;
        Some((total, cause))
    }
}
