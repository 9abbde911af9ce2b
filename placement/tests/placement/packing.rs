//! G1 to G4: packing where choosing pod by pod fails and an exact search succeeds.

use pd_placement::{Outcome, group::Group, objective::Search};

use crate::world::{
    assert_why, group, is_placed, nodes_of, placed, plan, problem, rack, role, shown, why, within,
};

/// Two large pods and two small ones: a node of 8 takes just one of each.
fn pairs() -> Group {
    within(
        "rack",
        group("g", &[role("large", 5, 2, 2), role("small", 3, 2, 2)]),
    )
}

#[test]
fn g1_two_nodes_take_large_and_small_pods_that_only_fit_in_pairs() {
    let nodes = rack("a", ("b1", "r1"), &[8, 8]);
    let placement = placed(&problem(nodes, vec![pairs()]));
    let shown = shown(plan(&placement, "g"));
    assert_eq!(shown["a-0"], "1 small + 1 large");
    assert_eq!(shown["a-1"], "1 small + 1 large");
}

#[test]
fn g1_the_same_with_three_shapes_on_uneven_nodes() {
    // Smallest first fills the node of 7 with 1 + 1 + 3 and leaves no room for the pods of 6.
    let nodes = rack("a", ("b1", "r1"), &[7, 7, 4]);
    let roles = [role("l", 6, 2, 2), role("m", 3, 1, 1), role("s", 1, 3, 3)];
    let placement = placed(&problem(nodes, vec![within("rack", group("g", &roles))]));
    assert!(is_placed(&placement, "g"), "{}", why(&placement, "g"));
}

#[test]
fn g1_one_gpu_less_and_nothing_is_placed() {
    let nodes = rack("a", ("b1", "r1"), &[8, 7]);
    let placement = placed(&problem(nodes, vec![pairs()]));
    let plan = plan(&placement, "g");
    assert_eq!(
        (&plan.outcome, plan.search),
        (&Outcome::Waiting, Search::Exact)
    );
    assert!(plan.slots.is_empty());
    assert_why(&placement, "g", "1 nvidia.com/gpu short");
}

#[test]
fn g2_a_preferred_rack_is_given_up_for_the_required_block() {
    let mut nodes = rack("a", ("b1", "r1"), &[8]);
    nodes.extend(rack("b", ("b1", "r2"), &[8]));
    nodes.extend(rack("c", ("b2", "r3"), &[8]));
    nodes.extend(rack("d", ("b3", "r4"), &[8]));
    let mut gang = within("block", group("g", &[role("prefill", 4, 3, 3)]));
    gang.preferred = Some("rack".to_owned());
    let placement = placed(&problem(nodes, vec![gang]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["a-0", "b-0"].into());
}

#[test]
fn g2_a_preferred_rack_is_taken_where_one_fits() {
    let mut nodes = rack("a", ("b1", "r1"), &[8]);
    nodes.extend(rack("b", ("b1", "r2"), &[8]));
    nodes.extend(rack("c", ("b2", "r3"), &[8, 8, 8, 8]));
    let mut gang = within("block", group("g", &[role("prefill", 4, 3, 3)]));
    gang.preferred = Some("rack".to_owned());
    let placement = placed(&problem(nodes, vec![gang]));
    let racks = plan(&placement, "g").domain.clone().unwrap().to_string();
    assert_eq!(racks, "block b2 / rack r3");
}

#[test]
fn g3_prefill_and_decode_fill_three_nodes_without_a_gap() {
    let nodes = rack("a", ("b1", "r1"), &[8, 8, 8]);
    let gang = group("g", &[role("prefill", 4, 3, 3), role("decode", 2, 6, 6)]);
    let placement = placed(&problem(nodes, vec![within("rack", gang)]));
    let plan = plan(&placement, "g");
    assert_eq!(plan.outcome, Outcome::Placed);
    assert_eq!(plan.objective.fragments, 0, "nothing is left over");
}

#[test]
fn g3_the_same_where_the_pods_of_one_role_are_the_gaps_of_another() {
    // 3 x 8 = 2 x 6 + 6 x 2: the pods of 2 must not be where the pods of 6 leave no room.
    let nodes = rack("a", ("b1", "r1"), &[8, 8, 8]);
    let gang = group("g", &[role("prefill", 6, 2, 2), role("decode", 2, 6, 6)]);
    let placement = placed(&problem(nodes, vec![within("rack", gang)]));
    assert!(is_placed(&placement, "g"));
}

#[test]
fn g4_a_domain_with_more_free_in_pieces_is_not_chosen() {
    let mut nodes = rack("a", ("b1", "r1"), &[2, 2, 2, 2, 2, 2, 2, 2]);
    nodes.extend(rack("b", ("b1", "r2"), &[4, 4]));
    let gang = within("rack", group("g", &[role("prefill", 4, 2, 2)]));
    let placement = placed(&problem(nodes, vec![gang]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["b-0", "b-1"].into());
}

#[test]
fn g4_pieces_are_named_where_no_domain_fits() {
    let nodes = rack("a", ("b1", "r1"), &[2, 2, 2, 2]);
    let gang = within("rack", group("g", &[role("prefill", 4, 2, 2)]));
    let placement = placed(&problem(nodes, vec![gang]));
    assert_why(
        &placement,
        "g",
        "8 nvidia.com/gpu are free but in pieces, at most 2 on a node",
    );
}

#[test]
fn the_tightest_rack_that_fits_is_taken() {
    let mut nodes = rack("a", ("b1", "r1"), &[8, 8, 8, 8]);
    nodes.extend(rack("b", ("b1", "r2"), &[8, 8]));
    nodes.extend(rack("c", ("b1", "r3"), &[8, 8, 8]));
    let gang = within("rack", group("g", &[role("prefill", 8, 2, 2)]));
    let placement = placed(&problem(nodes, vec![gang]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["b-0", "b-1"].into());
}
