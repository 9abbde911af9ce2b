//! The picture: all nodes, groups and states are in it, and it is the same each time.

use pd_placement::picture::{Panel, picture};

use crate::world::{GPU, group, occupant, placed, problem, rack, role};

#[test]
fn a_picture_shows_nodes_by_domain_groups_by_colour_and_lost_nodes() {
    let mut nodes = [
        rack("a", ("b1", "r1"), &[8, 8]),
        rack("b", ("b<1", "r2"), &[8]),
    ]
    .concat();
    nodes[1].is_ready = false;
    nodes[2].occupants.push(occupant("x/y", 2));
    let problem = problem(nodes, vec![group("team/g", &[role("prefill", 4, 1, 1)])]);
    let placement = placed(&problem);
    let panel = |title| Panel {
        title,
        problem: &problem,
        placement: &placement,
    };
    let svg = picture(&[panel("before"), panel("after")], GPU);
    for part in [
        "before",
        "after",
        "block b1",
        "rack r2",
        "a-0",
        "team/g: placed",
        "b&lt;1",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert_eq!(
        svg.matches("class=\"pod\" fill").count(),
        2 * 4,
        "4 GPUs in each panel"
    );
    assert_eq!(svg.matches("class=\"other\"").count(), 2 * 2);
    assert_eq!(svg.matches("class=\"lost\"").count(), 2);
    assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
    assert_eq!(svg, picture(&[panel("before"), panel("after")], GPU));
}
