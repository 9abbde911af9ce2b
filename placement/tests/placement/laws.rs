//! Laws of placing: what never changes, and what never gets worse.

use std::collections::BTreeMap;

use pd_placement::{GroupPlan, Outcome, Problem, Session, objective::Search, place};
use proptest::prelude::*;

use crate::{
    brute_force::{any_case, members},
    world::{placed, plan},
};

/// Several small groups in one cluster.
fn any_problem() -> impl Strategy<Value = Problem> {
    prop::collection::vec(any_case(), 1..4).prop_map(|cases| {
        let mut problem = cases[0].clone();
        problem.groups = cases
            .iter()
            .enumerate()
            .map(|(index, case)| {
                let mut group = case.groups[0].clone();
                group.name = format!("g{index}");
                group
            })
            .collect();
        problem
    })
}

/// The same with other names of nodes.
fn renamed(problem: &Problem, name: impl Fn(&str) -> String) -> Problem {
    let mut renamed = problem.clone();
    for node in &mut renamed.nodes {
        node.name = name(&node.name);
    }
    for group in &mut renamed.groups {
        group.excluded_nodes = group.excluded_nodes.iter().map(|node| name(node)).collect();
    }
    renamed
}

fn nodes(plan: &GroupPlan, name: impl Fn(&str) -> String) -> Vec<(String, u32, String)> {
    let slots = plan.slots.iter();
    let mut nodes: Vec<_> = slots
        .map(|slot| (slot.role.clone(), slot.replica, name(&slot.node)))
        .collect();
    nodes.sort();
    nodes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_placement_keeps_its_promises(problem in any_problem()) {
        placed(&problem);
    }

    #[test]
    fn more_nodes_never_make_a_group_infeasible(problem in any_case(), more in any_case()) {
        let before = place(&problem);
        let mut larger = problem;
        let new = more.nodes.into_iter().map(|mut node| {
            node.name = format!("z{}", node.name);
            node
        });
        larger.nodes.extend(new);
        if plan(&before, "g").outcome == Outcome::Placed {
            let after = placed(&larger);
            let (before, after) = (plan(&before, "g"), plan(&after, "g"));
            prop_assert_eq!(&after.outcome, &Outcome::Placed);
            let total = |plan: &GroupPlan| plan.replicas.values().sum::<u32>();
            let is_even = larger.groups[0].lockstep;
            prop_assert!(is_even || total(after) >= total(before));
        }
    }

    #[test]
    fn names_of_nodes_change_nothing_but_names(problem in any_problem()) {
        let name = |node: &str| format!("rack-{node}.example");
        let (one, other) = (place(&problem), place(&renamed(&problem, name)));
        for (group, plan) in &one.groups {
            let same = &other.groups[group];
            prop_assert_eq!(&plan.outcome, &same.outcome);
            prop_assert_eq!(nodes(plan, name), nodes(same, str::to_owned));
        }
    }

    #[test]
    fn other_names_of_nodes_make_no_placement_better_or_worse(problem in any_case()) {
        let reversed = |node: &str| match node {
            "n0" => "n9".to_owned(),
            "n1" => "n8".to_owned(),
            other => other.to_owned(),
        };
        let (one, other) = (place(&problem), place(&renamed(&problem, reversed)));
        let (one, other) = (plan(&one, "g"), plan(&other, "g"));
        prop_assert_eq!(&one.outcome, &other.outcome);
        prop_assert_eq!(&one.replicas, &other.replicas);
        prop_assert_eq!(one.objective, other.objective);
    }

    #[test]
    fn the_order_of_nodes_and_groups_changes_nothing(problem in any_problem(), by in 0_usize..4) {
        let mut shuffled = problem.clone();
        let (nodes, groups) = (shuffled.nodes.len(), shuffled.groups.len());
        shuffled.nodes.rotate_left(by % nodes);
        shuffled.groups.rotate_left(by % groups);
        prop_assert_eq!(place(&problem), place(&shuffled));
    }

    #[test]
    fn placing_again_moves_nothing(problem in any_problem()) {
        let before = place(&problem);
        let mut again = problem;
        for group in &mut again.groups {
            group.members = members(&before.groups[&group.name]);
        }
        let after = placed(&again);
        for (name, plan) in &before.groups {
            let same = &after.groups[name];
            prop_assert!(same.ends.is_empty());
            if plan.outcome == Outcome::Placed {
                prop_assert_eq!(nodes(plan, str::to_owned), nodes(same, str::to_owned));
            }
        }
    }

    #[test]
    fn a_search_over_the_most_pods_alone_places_as_many(problem in any_case()) {
        let exact = place(&problem);
        let mut cut = problem;
        // Small enough that the cases of more than a few pods exceed it.
        cut.settings.work_max = 60;
        let cut = placed(&cut);
        let (exact, cut) = (plan(&exact, "g"), plan(&cut, "g"));
        if cut.search == Search::MostPods {
            prop_assert_eq!(&exact.outcome, &cut.outcome);
            prop_assert_eq!(&exact.replicas, &cut.replicas);
        }
        if cut.outcome == Outcome::Placed {
            prop_assert_eq!(&exact.outcome, &Outcome::Placed);
        }
    }

    #[test]
    fn what_if_agrees_with_placing(problem in any_case(), more in 1_u32..3) {
        let mut session = Session::new(&problem);
        let placement = session.placement();
        if plan(&placement, "g").outcome != Outcome::Placed {
            return Ok(());
        }
        let roles = problem.groups[0].roles.iter();
        let question: BTreeMap<String, u32> = roles.map(|role| (role.name.clone(), more)).collect();
        let answer = session.what_if("g", &question).unwrap();
        let mut grown = problem.clone();
        grown.groups[0].members = members(plan(&placement, "g"));
        for role in &mut grown.groups[0].roles {
            role.desired = plan(&placement, "g").replicas[&role.name] + more;
            role.min = role.desired;
        }
        let after = place(&grown);
        prop_assert_eq!(answer.fits, plan(&after, "g").outcome == Outcome::Placed);
        prop_assert_eq!(answer.fits, answer.sets_at_most > 0);
        prop_assert_eq!(answer.fits, answer.granted == question);
    }
}
