//! Searches that hit their bound: they say so, and what they place is right.

use pd_placement::{Outcome, objective::Search};

use crate::world::{assert_why, group, is_placed, placed, plan, problem, rack, role, within};

#[test]
fn a_search_that_is_cut_says_so_and_finds_as_many_pods() {
    let nodes = rack("a", ("b1", "r1"), &[8; 12]);
    let gang = within(
        "rack",
        group(
            "g",
            &[role("prefill", 4, 12, 12), role("decode", 2, 24, 24)],
        ),
    );
    let mut problem = problem(nodes, vec![gang]);
    let exact = placed(&problem);
    assert_eq!(plan(&exact, "g").search, Search::Exact);
    problem.settings.work_max = 20_000;
    let frontier = placed(&problem);
    assert_eq!(plan(&frontier, "g").search, Search::MostPods);
    assert!(
        is_placed(&frontier, "g"),
        "96 GPUs are filled without a gap all the same"
    );
    problem.settings.work_max = 1;
    let beam = placed(&problem);
    assert_eq!(plan(&beam, "g").search, Search::Bounded);
    assert!(is_placed(&beam, "g"));
}

#[test]
fn a_cut_search_that_finds_nothing_claims_no_proof() {
    let nodes = rack("a", ("b1", "r1"), &[8, 8]);
    let gang = within("rack", group("g", &[role("prefill", 4, 5, 5)]));
    let mut problem = problem(nodes, vec![gang]);
    assert_why(&placed(&problem), "g", "no rack holds 5 prefill");
    problem.settings.work_max = 0;
    assert_why(&placed(&problem), "g", "before the search was cut off");
}

#[test]
fn four_roles_of_many_pods_end_in_time() {
    let nodes = (0..20).flat_map(|r| {
        let name = format!("r{r:02}");
        rack(&name, ("b1", &name), &[8; 16])
    });
    let roles = [
        role("prefill", 4, 40, 40),
        role("decode", 2, 60, 60),
        role("encode", 1, 50, 50),
        role("router", 1, 30, 30),
    ];
    let gang = within("block", group("g", &roles));
    let mut problem = problem(nodes.collect(), vec![gang]);
    problem.settings.work_max = 500_000;
    let placement = placed(&problem);
    assert_eq!(plan(&placement, "g").outcome, Outcome::Placed);
    assert_ne!(plan(&placement, "g").search, Search::Exact);
}
