//! Levels: required and preferred, of group, role and replica; G5; labels that repeat, come late or
//! never; traffic between roles.

use pd_placement::{
    Outcome,
    group::{Group, Traffic},
    topology::{Level, Topology},
};

use crate::world::{
    assert_why, domain, faults, group, is_placed, node, nodes_of, placed, plan, pods, problem,
    rack, role, shown, within,
};

/// Each role in a rack of its own, both in one block.
fn nested() -> Group {
    let mut roles = [role("prefill", 4, 2, 2), role("decode", 4, 2, 2)];
    for role in &mut roles {
        role.required = Some("rack".to_owned());
    }
    within("block", group("g", &roles))
}

/// Two levels, of which the narrow one may be missing everywhere.
fn optional_rack() -> Topology {
    Topology::new(vec![
        Level::new("block", "block"),
        Level::new("rack", "rack").optional(),
    ])
    .unwrap()
}

#[test]
fn g5_roles_in_racks_of_their_own_stay_in_one_block() {
    // Role by role the tightest racks are in different blocks.
    let mut nodes = rack("a", ("b1", "r1"), &[8]);
    nodes.extend(rack("b", ("b2", "r1"), &[8]));
    nodes.extend(rack("c", ("b3", "r1"), &[8, 8]));
    nodes.extend(rack("d", ("b3", "r2"), &[8, 8]));
    let placement = placed(&problem(nodes, vec![nested()]));
    assert_eq!(domain(plan(&placement, "g")), "block b3 / rack r1");
}

#[test]
fn g5_two_racks_of_one_block_are_used_where_one_is_too_small() {
    let mut nodes = rack("a", ("b1", "r1"), &[8]);
    nodes.extend(rack("b", ("b2", "r1"), &[8]));
    nodes.extend(rack("c", ("b3", "r1"), &[4, 4]));
    nodes.extend(rack("d", ("b3", "r2"), &[8]));
    let placement = placed(&problem(nodes, vec![nested()]));
    assert_eq!(domain(plan(&placement, "g")), "block b3");
}

#[test]
fn g5_a_role_is_not_split_although_the_block_has_room() {
    let mut nodes = rack("a", ("b1", "r1"), &[4, 4]);
    nodes.extend(rack("b", ("b1", "r2"), &[4]));
    nodes.extend(rack("c", ("b1", "r3"), &[4]));
    let placement = placed(&problem(nodes, vec![nested()]));
    assert_eq!(plan(&placement, "g").outcome, Outcome::Waiting);
}

#[test]
fn n9_racks_of_one_name_in_two_blocks_are_two_domains() {
    let mut nodes = rack("a", ("b1", "r1"), &[4]);
    nodes.extend(rack("b", ("b2", "r1"), &[4]));
    let gang = within("rack", group("g", &[role("prefill", 4, 2, 2)]));
    let placement = placed(&problem(nodes.clone(), vec![gang.clone()]));
    assert!(!is_placed(&placement, "g"));
    nodes.extend(rack("c", ("b1", "r1"), &[4]));
    let placement = placed(&problem(nodes, vec![gang]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["a-0", "c-0"].into());
}

#[test]
fn n8_nodes_without_a_label_are_left_out_and_counted() {
    let mut nodes = rack("a", ("b1", "r1"), &[4]);
    nodes.push(node("bare", ("b1", ""), 8));
    nodes.push(node("lost", ("", "r1"), 8));
    let gang = within("rack", group("g", &[role("prefill", 4, 2, 2)]));
    let placement = placed(&problem(nodes.clone(), vec![gang]));
    assert_why(
        &placement,
        "g",
        "2 nodes have no label down to level `rack`",
    );
    // Where no rack is required they are nodes like others.
    let gang = group("g", &[role("prefill", 4, 5, 5)]);
    assert!(is_placed(&placed(&problem(nodes, vec![gang])), "g"));
}

#[test]
fn n8_a_bare_node_is_no_worse_for_a_preferred_level_than_another() {
    // One pod is in one domain either way, and the bare node is the tighter one.
    let nodes = vec![node("a", ("b1", "r1"), 3), node("bare", ("b1", ""), 2)];
    let mut gang = group("g", &[role("prefill", 1, 1, 1)]);
    gang.preferred = Some("rack".to_owned());
    let placement = placed(&problem(nodes, vec![gang]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["bare"].into());
}

#[test]
fn n10_a_level_that_nobody_has_yet_makes_the_group_wait() {
    let nodes = vec![node("a", ("b1", ""), 8), node("b", ("b1", ""), 8)];
    let gang = within("rack", group("g", &[role("prefill", 4, 2, 2)]));
    let mut problem = problem(nodes, vec![gang]);
    assert!(!is_placed(&placed(&problem), "g"));
    // An optional level is no less required by whoever requires it.
    problem.topology = optional_rack();
    let placement = placed(&problem);
    assert!(!is_placed(&placement, "g"));
    assert_why(&placement, "g", "no node has a label for level `rack`");
}

#[test]
fn n11_a_level_that_the_topology_lost_refuses_the_group() {
    let nodes = rack("a", ("b1", "r1"), &[8]);
    let gang = within("row", group("g", &[role("prefill", 4, 1, 1)]));
    let placement = placed(&problem(nodes, vec![gang]));
    let said = &faults(&placement, "g")[0];
    assert!(
        said.contains("`row`") && said.contains("block, rack, node"),
        "{said}"
    );
}

#[test]
fn a_preference_that_no_label_can_meet_is_reported_where_it_matters() {
    let mut problem = problem(rack("a", ("b1", ""), &[4]), Vec::new());
    problem.topology = optional_rack();
    let mut gang = group("g", &[role("prefill", 4, 1, 2)]);
    gang.preferred = Some("rack".to_owned());
    problem.groups = vec![gang];
    let placement = placed(&problem);
    assert!(is_placed(&placement, "g"));
    assert_why(&placement, "g", "no node has a label for level `rack`");
}

#[test]
fn replicas_of_several_pods_stay_in_one_rack_each() {
    let mut nodes = rack("a", ("b1", "r1"), &[8, 8, 8]);
    nodes.extend(rack("b", ("b1", "r2"), &[8]));
    let mut role = role("prefill", 8, 2, 2);
    role.pods = vec![pods("leader", 1, 8), pods("worker", 1, 8)];
    role.replica_required = Some("rack".to_owned());
    let gang = within("block", group("g", &[role]));
    let placement = placed(&problem(nodes.clone(), vec![gang.clone()]));
    assert!(
        !is_placed(&placement, "g"),
        "3 + 1 nodes hold one replica, not two"
    );
    nodes.extend(rack("c", ("b1", "r2"), &[8]));
    let placement = placed(&problem(nodes, vec![gang]));
    assert!(is_placed(&placement, "g"));
}

#[test]
fn a_role_on_one_node_is_on_one_node() {
    let nodes = rack("a", ("b1", "r1"), &[6, 8]);
    let mut decode = role("decode", 2, 4, 4);
    decode.required = Some("node".to_owned());
    let gang = group("g", &[role("prefill", 2, 3, 3), decode]);
    let shown = shown(plan(&placed(&problem(nodes, vec![gang])), "g"));
    assert_eq!(shown["a-1"], "4 decode");
}

#[test]
fn the_pair_with_more_traffic_is_nearer() {
    // Two nodes of 8 in one rack: whoever talks to prefill shares its node.
    let nodes = rack("a", ("b1", "r1"), &[8, 8]);
    let roles = [
        role("prefill", 4, 1, 1),
        role("decode", 4, 1, 1),
        role("router", 4, 1, 1),
    ];
    let near = |to: &str, other: &str| {
        let mut gang = group("g", &roles);
        let traffic = |to: &str, weight| Traffic {
            from: "prefill".to_owned(),
            to: to.to_owned(),
            weight,
        };
        gang.traffic = vec![traffic(to, 9), traffic(other, 1)];
        let placement = placed(&problem(nodes.clone(), vec![gang]));
        let plan = plan(&placement, "g").clone();
        let node_of = |role: &str| {
            let slot = plan.slots.iter().find(|slot| slot.role == role);
            slot.map(|slot| slot.node.clone())
        };
        assert_eq!(node_of("prefill"), node_of(to));
        assert_eq!(plan.objective.traffic, 1);
    };
    near("decode", "router");
    near("router", "decode");
}

#[test]
fn traffic_outweighs_a_tighter_domain_and_a_preferred_level_outweighs_traffic() {
    let mut nodes = rack("a", ("b1", "r1"), &[4, 4]);
    nodes.extend(rack("b", ("b1", "r2"), &[8, 8]));
    let mut gang = within(
        "rack",
        group("g", &[role("prefill", 4, 1, 1), role("decode", 4, 1, 1)]),
    );
    let placement = placed(&problem(nodes.clone(), vec![gang.clone()]));
    assert_eq!(
        domain(plan(&placement, "g")),
        "block b1 / rack r2 / node b-0"
    );
    gang.traffic = vec![Traffic {
        from: "prefill".to_owned(),
        to: "decode".to_owned(),
        weight: 1,
    }];
    let placement = placed(&problem(nodes, vec![gang]));
    assert_eq!(plan(&placement, "g").objective.traffic, 0);
}

#[test]
fn narrow_rules_that_are_wider_than_wide_ones_are_refused() {
    let nodes = rack("a", ("b1", "r1"), &[8]);
    let mut gang = within("rack", group("g", &[role("prefill", 4, 1, 1)]));
    gang.preferred = Some("block".to_owned());
    gang.roles[0].required = Some("block".to_owned());
    let placement = placed(&problem(nodes, vec![gang]));
    let said = faults(&placement, "g");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("preferred:") && said[1].starts_with("roles.prefill.required:"));
}

#[test]
fn every_fault_of_a_group_is_named_and_harms_no_other() {
    let nodes = rack("a", ("b1", "r1"), &[8]);
    let mut bad = group(
        "bad",
        &[role("p", 1, 3, 2), role("p", 1, 1, 1), role("q", 1, 0, 0)],
    );
    bad.roles[1].pods.clear();
    bad.traffic = vec![Traffic {
        from: "p".to_owned(),
        to: "x".to_owned(),
        weight: 1,
    }];
    let mut huge = group("huge", &[role("p", 1, 1, 5_000)]);
    huge.roles[0].pods = (0..9).map(|n| pods(&format!("k{n}"), 1, 1)).collect();
    let good = group("good", &[role("p", 1, 1, 1)]);
    let placement = placed(&problem(nodes, vec![bad, huge, good, group("none", &[])]));
    let bad = faults(&placement, "bad").join("\n");
    for part in [
        "min is `3`",
        "`p` is there twice",
        "has no pods",
        "min is `0`",
        "kind `x`",
    ] {
        assert!(bad.contains(part), "{part}: {bad}");
    }
    let huge = faults(&placement, "huge").join("\n");
    assert!(
        huge.contains("`9` kinds of pods") && huge.contains("`5000` pods"),
        "{huge}"
    );
    assert_eq!(faults(&placement, "none").len(), 1);
    assert!(is_placed(&placement, "good"));
}
