//! Room for more replicas of a placement group: it is asked for before they are requested.
//!
//! Pods of a group that find no place wait, and with them the GPUs of the other role do nothing. So
//! a plan that grows is put as a question to pd-scheduler-plugin, and grows only as far as there
//! are places. If one role gets a part of what it needs, so does the other, by the same share:
//! prefill without the decode that it was planned with waits for nobody, and takes its place.
//!
//! Nobody has to answer. Without an answer the plan stays, and pods that find no place are seen by
//! their condition like any that cannot be scheduled.

pub mod http;
pub mod member;
pub mod question;

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use pd_core::{PerRole, Reason, Role, Stage, Step};
use tracing::debug;

use self::{
    member::Member,
    question::{Answer, Question},
};
use crate::{
    context::Context,
    plan::{OwnRules, Planned},
};

/// The most replicas that have places, where they are fewer than a plan has.
#[derive(Clone, Debug)]
pub struct Limit {
    most: PerRole<u32>,
    message: String,
    /// The object's own rules, which hold again once all plans are made.
    own: OwnRules,
}

/// Asks about a plan that grows; nothing where it may be as it is.
pub async fn limit(context: &Context, planned: &Planned<'_>) -> Option<Limit> {
    let ask = context.room.as_ref().filter(|_| planned.grows())?;
    let namespace = planned.observed.object.namespace().unwrap_or_default();
    let current = planned.observed.snapshot.roles.map(|role| role.current);
    let to = planned.decision.plan.replicas;
    let more = PerRole::from_fn(|role| to[role].saturating_sub(current[role]));
    let mut granted = more;
    let mut messages = Vec::new();
    for question in questions(&namespace, &planned.observed.members, more) {
        let group = question.group.clone();
        let asked = question.more.clone();
        match ask(question).await {
            Ok(answer) if answer.fits => {}
            Ok(answer) => {
                let of_group = |role: Role| {
                    let member = planned.observed.members[role].as_ref();
                    member.filter(|member| member.group == group)
                };
                for role in Role::ALL {
                    if let Some(member) = of_group(role) {
                        let places = answer.granted.get(&member.role).copied().unwrap_or(0);
                        granted[role] = granted[role].min(places);
                    }
                }
                messages.push(refusal(&group, &asked, &answer));
            }
            Err(error) => {
                debug!(%error, namespace, group, "nobody says whether there is room");
                context.metrics.api_failed("what-if");
            }
        }
    }
    if messages.is_empty() {
        return None;
    }
    let granted = in_step(more, granted);
    Some(Limit {
        most: PerRole::from_fn(|role| current[role].saturating_add(granted[role])),
        message: messages.join("; "),
        own: planned.own_rules(),
    })
}

/// One question for each group that would grow.
fn questions(
    namespace: &str,
    members: &PerRole<Option<Member>>,
    more: PerRole<u32>,
) -> Vec<Question> {
    let mut groups: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    for role in Role::ALL {
        if let (Some(member), 1..) = (&members[role], more[role]) {
            let of_group = groups.entry(&member.group).or_default();
            *of_group.entry(member.role.clone()).or_default() += more[role];
        }
    }
    let groups = groups.into_iter();
    groups
        .map(|(group, more)| Question {
            namespace: namespace.to_owned(),
            group: group.to_owned(),
            more,
        })
        .collect()
}

/// The replicas that are added when both roles get the same share of what they need: that of the
/// role with less room.
fn in_step(more: PerRole<u32>, granted: PerRole<u32>) -> PerRole<u32> {
    let tightest = Role::ALL
        .into_iter()
        .filter(|role| more[*role] > 0)
        .min_by(|one, other| {
            // Fractions by their cross products, which are exact.
            let left = u64::from(granted[*one]) * u64::from(more[*other]);
            left.cmp(&(u64::from(granted[*other]) * u64::from(more[*one])))
        });
    let Some(tightest) = tightest else {
        return granted;
    };
    PerRole::from_fn(|role| {
        let share = u64::from(more[role]) * u64::from(granted[tightest]);
        let share = share.checked_div(u64::from(more[tightest])).unwrap_or(0);
        u32::try_from(share).unwrap_or(u32::MAX).min(granted[role])
    })
}

fn refusal(group: &str, asked: &BTreeMap<String, u32>, answer: &Answer) -> String {
    let of = asked.iter().map(|(role, replicas)| {
        let places = answer.granted.get(role).copied().unwrap_or(0);
        format!("{places} of {replicas} more {role}")
    });
    let of: Vec<String> = of.collect();
    format!(
        "PlacementGroup `{group}` has room for {}: {}",
        of.join(" and "),
        answer.message
    )
}

/// The plan under `limit`. Its snapshot has the limit in it until [`explained`].
#[must_use]
pub fn under<'a>(limit: Option<&Limit>, planned: Planned<'a>) -> Planned<'a> {
    let Some(Limit { most, own, .. }) = limit else {
        return planned;
    };
    let planned = planned.again(|snapshot| snapshot.policy.bounds = own.capped(*most));
    let to = planned.decision.plan.replicas;
    if Role::ALL.into_iter().all(|role| to[role] <= most[role]) {
        return planned;
    }
    // Bounds cannot say it of a role at zero, nor where a schedule sets others.
    planned.again(|snapshot| snapshot.paused.scale_up = true)
}

/// The plan with the object's own rules, and the limit as its reason.
#[must_use]
pub fn explained(limit: Option<Limit>, planned: Planned<'_>) -> Planned<'_> {
    let Some(limit) = limit else {
        return planned;
    };
    let mut planned = planned.under_own_rules(limit.own);
    planned.decision.report.steps.push(Step::of_both(
        Stage::Solve,
        Reason::PlacementLimited,
        limit.message,
    ));
    planned
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn member(group: &str, role: &str) -> Member {
        Member {
            group: group.to_owned(),
            role: role.to_owned(),
        }
    }

    #[rstest]
    #[case::all_of_both((2, 4), (2, 4), (2, 4))]
    #[case::none_of_one((2, 4), (2, 0), (0, 0))]
    #[case::half_of_one((2, 4), (2, 2), (1, 2))]
    #[case::less_than_one_of_the_other((1, 4), (1, 3), (0, 3))]
    #[case::one_alone_grows((0, 4), (0, 3), (0, 3))]
    #[case::nothing_grows((0, 0), (0, 0), (0, 0))]
    fn both_roles_get_the_same_share(
        #[case] more: (u32, u32),
        #[case] granted: (u32, u32),
        #[case] expected: (u32, u32),
    ) {
        let of = |(prefill, decode)| PerRole { prefill, decode };
        assert_eq!(in_step(of(more), of(granted)), of(expected));
    }

    #[test]
    fn roles_of_one_group_are_asked_about_together_and_others_not_at_all() {
        let more = PerRole {
            prefill: 1,
            decode: 2,
        };
        let members = PerRole {
            prefill: Some(member("llama", "p")),
            decode: Some(member("llama", "d")),
        };
        let asked = questions("ns", &members, more);
        assert_eq!(asked.len(), 1);
        let of = [("p".to_owned(), 1), ("d".to_owned(), 2)];
        assert_eq!(asked[0].more, of.into());
        let members = PerRole {
            prefill: None,
            decode: Some(member("llama", "d")),
        };
        let asked = questions("ns", &members, more);
        assert_eq!(asked[0].more, [("d".to_owned(), 2)].into());
        let rests = PerRole {
            prefill: 1,
            decode: 0,
        };
        assert!(questions("ns", &members, rests).is_empty());
    }
}
