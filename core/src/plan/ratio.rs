//! The ratio of the joint solution held against its band.

use super::{in_force::RatioInForce, joint::JointSolution};
use crate::{
    need::Need,
    ratio::RatioState,
    report::RatioReport,
    role::{PerRole, Role},
    time::Timestamp,
};

/// The ratio of `solution` held against its band, and the ratio that the traffic needs.
pub(super) fn judge_ratio(
    needs: &PerRole<Option<Need>>,
    solution: &JointSolution,
    memory: &mut RatioState,
    now: Timestamp,
) -> RatioReport {
    let exact = PerRole::from_fn(|role: Role| needs[role].as_ref().map(|need| need.exact));
    memory.follow(exact, now);
    let RatioInForce {
        policy,
        operating_point,
    } = &solution.ratio;
    let band = policy.map(|policy| policy.band);
    RatioReport {
        policy: *policy,
        traffic: memory.target(),
        breach: memory.judge(band, solution.replicas, solution.breach, now),
        operating_point: operating_point.clone(),
    }
}
