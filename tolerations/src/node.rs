//! All tolerations of a pod against all taints of a node: what the scheduler's `TaintToleration`
//! plugin decides.
//!
//! The filter knows `NoSchedule` and `NoExecute`; one untolerated taint of either refuses the node,
//! and preemption cannot help. The score counts untolerated `PreferNoSchedule` taints and is
//! normalised over the nodes that are left. Tolerations are alternatives: one is enough, so two of
//! them never make a range. Taints are judged one by one, for a node may carry the same key with
//! three effects and three numbers.
//!
//! Sources: kubernetes `pkg/scheduler/framework/plugins/tainttoleration`,
//! `plugins/helper/normalize_score.go`, kubernetes/component-helpers
//! `scheduling/corev1/helpers.go`.

use super::{Comparison, Effect, Taint, Toleration};

/// Best score of a node after normalisation.
pub const SCORE_MAX: u32 = 100;

/// The place of the first toleration in list order that tolerates `taint`.
pub fn first_toleration(
    tolerations: &[Toleration],
    taint: &Taint,
    comparison: Comparison,
) -> Option<usize> {
    tolerations
        .iter()
        .position(|toleration| toleration.tolerates(taint, comparison))
}

/// The first taint in list order that keeps the pod from the node; nothing if the node fits.
pub fn first_untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    comparison: Comparison,
) -> Option<&'a Taint> {
    taints
        .iter()
        .filter(|taint| taint.effect.forbids_scheduling())
        .find(|taint| first_toleration(tolerations, taint, comparison).is_none())
}

/// How many `PreferNoSchedule` taints the pod does not tolerate. Only tolerations with that effect
/// or none count.
pub fn untolerated_preferences(
    taints: &[Taint],
    tolerations: &[Toleration],
    comparison: Comparison,
) -> u32 {
    let untolerated = taints
        .iter()
        .filter(|taint| taint.effect == Effect::PreferNoSchedule)
        .filter(|taint| first_toleration(tolerations, taint, comparison).is_none())
        .count();
    u32::try_from(untolerated).unwrap_or(u32::MAX)
}

/// Scores from 0 to [`SCORE_MAX`] for nodes with these counts of [`untolerated_preferences`]: fewer
/// is better, and the most of them is always 0.
pub fn normalized(counts: &[u32]) -> Vec<u32> {
    let most = counts.iter().copied().max().unwrap_or(0);
    let score = |count: &u32| {
        let lost = u64::from(SCORE_MAX) * u64::from(*count) / u64::from(most.max(1));
        SCORE_MAX - u32::try_from(lost).unwrap_or(SCORE_MAX)
    };
    counts.iter().map(score).collect()
}
