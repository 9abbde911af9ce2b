//! A decision as one sentence that a person reads in a terminal.
//!
//! A report has a step for every stage, most of which only describe. A sentence has those that made
//! the decision: first the one that decided, then for each role that changes its need and whatever
//! limited it. The rest is in the steps of status and in the log.

use pd_core::{Reason, Report, Role, Stage, Step};

/// The change and its reasons.
pub fn sentence(report: &Report) -> String {
    let because: Vec<String> = deciding(report).into_iter().map(with_role).collect();
    if because.is_empty() {
        return report.headline();
    }
    format!("{}: {}", report.headline(), because.join("; "))
}

/// Why `role` changes, without the role's name.
pub fn of_role(report: &Report, role: Role) -> String {
    let steps = report
        .steps
        .iter()
        .filter(|step| of_its_own(step, role) || step.reason == report.reason);
    let messages: Vec<&str> = steps.map(|step| step.message.as_str()).collect();
    messages.join("; ")
}

/// A step with the role that it is about.
pub fn with_role(step: &Step) -> String {
    match step.role {
        Some(role) => format!("{role}: {}", step.message),
        None => step.message.clone(),
    }
}

fn deciding(report: &Report) -> Vec<&Step> {
    let moves = |role: &Role| report.from[*role] != report.to[*role];
    let changed: Vec<Role> = Role::ALL.into_iter().filter(moves).collect();
    let decided = |step: &&Step| step.reason == report.reason;
    let mut steps: Vec<&Step> = report.steps.iter().filter(decided).collect();
    let further = report.steps.iter().filter(|step| !decided(step));
    // Nothing changes and nothing holds it: then the needs say why.
    let calm = changed.is_empty() && [Reason::Steady, Reason::Idle].contains(&report.reason);
    steps.extend(further.filter(|step| {
        let limits_both = step.role.is_none() && step.stage > Stage::Bounds && !changed.is_empty();
        let of_changed = changed.iter().any(|role| of_its_own(step, *role));
        limits_both || of_changed || (calm && step.stage == Stage::Need)
    }));
    steps
}

/// Whether a step is about `role` alone, and more than a description.
fn of_its_own(step: &Step, role: Role) -> bool {
    step.role == Some(role) && step.stage >= Stage::Need
}

#[cfg(test)]
mod tests;
