//! Writes a picture of a fixed cluster before and after it loses a node, as SVG, to standard
//! output: `cargo run -p pd-placement --example picture > picture.svg`.
//!
//! Three services in two blocks: one in a rack of its own, two that share a block. The lost node
//! has pods of one of them, which are replaced in the same rack.

use pd_placement::{
    Placement, Problem,
    group::{Exclusive, Fallback, Group, PodKind, Role},
    node::{Node, Occupant},
    picture::{Panel, picture},
    place,
    pod::PodShape,
    resources::{PODS, Resources},
    topology::{Level, Topology, TopologyError},
};

const GPU: &str = "nvidia.com/gpu";

fn main() -> Result<(), TopologyError> {
    let before = Problem {
        nodes: nodes(),
        topology: Topology::new(vec![
            Level::new("block", "block"),
            Level::new("rack", "rack"),
        ])?,
        groups: groups(),
        ..Problem::default()
    };
    let placed = place(&before);
    let mut after = running(&before, &placed);
    let lost = lost(&placed);
    for node in &mut after.nodes {
        node.is_ready = node.is_ready && node.name != lost;
    }
    for group in &mut after.groups {
        group.members.retain(|member| member.node != lost);
    }
    let replaced = place(&after);
    let title = format!("after {lost} was lost");
    let panels = [
        Panel {
            title: "before",
            problem: &before,
            placement: &placed,
        },
        Panel {
            title: &title,
            problem: &after,
            placement: &replaced,
        },
    ];
    println!("{}", picture(&panels, GPU));
    for plan in replaced.groups.values() {
        if let Some(explanation) = &plan.explanation {
            eprintln!("{explanation}");
        }
    }
    Ok(())
}

fn amounts(gpus: i64) -> Resources {
    [(GPU.to_owned(), gpus), (PODS.to_owned(), 1)]
        .into_iter()
        .collect()
}

/// Two blocks of three racks of four nodes. One node in five has a pod of somebody else.
fn nodes() -> Vec<Node> {
    let mut nodes = Vec::new();
    for index in 0..24 {
        let (block, rack) = (index / 12, index / 4 % 3);
        let mut allocatable = amounts(8);
        allocatable.set(PODS, 110);
        nodes.push(Node {
            name: format!("n{index:02}"),
            labels: [
                ("block".to_owned(), format!("b{block}")),
                ("rack".to_owned(), format!("r{rack}")),
            ]
            .into(),
            is_ready: true,
            allocatable,
            occupants: (index % 5 == 0)
                .then(|| Occupant {
                    name: format!("other/{index}"),
                    requests: amounts(2),
                    ..Occupant::default()
                })
                .into_iter()
                .collect(),
            ..Node::default()
        });
    }
    nodes
}

fn groups() -> Vec<Group> {
    let role = |name: &str, gpus, replicas| Role {
        name: name.to_owned(),
        pods: vec![PodKind {
            name: "engine".to_owned(),
            count: 1,
            shape: PodShape {
                requests: amounts(gpus),
                ..PodShape::default()
            },
        }],
        min: 1,
        desired: replicas,
        ..Role::default()
    };
    let group = |name: &str, prefill, decode| Group {
        name: name.to_owned(),
        roles: vec![role("prefill", 4, prefill), role("decode", 2, decode)],
        required: Some("block".to_owned()),
        preferred: Some("rack".to_owned()),
        ..Group::default()
    };
    let alone = Group {
        exclusive: Some(Exclusive {
            level: "rack".to_owned(),
            fallback: Fallback::Wait,
        }),
        ..group("llm/alone", 2, 4)
    };
    vec![alone, group("llm/chat", 3, 6), group("llm/search", 6, 8)]
}

/// The same problem when the pods of a placement run.
fn running(problem: &Problem, placement: &Placement) -> Problem {
    let mut running = problem.clone();
    for group in &mut running.groups {
        let plan = placement.groups.get(&group.name);
        let slots = plan.into_iter().flat_map(|plan| &plan.slots);
        let members = slots.enumerate();
        group.members = members
            .map(|(index, slot)| slot.member(format!("{}-{index}", group.name)))
            .collect();
    }
    running
}

/// The node with the most pods of the group that is alone in its rack.
fn lost(placement: &Placement) -> String {
    let plan = placement.groups.get("llm/alone");
    let mut pods = std::collections::BTreeMap::new();
    for slot in plan.into_iter().flat_map(|plan| &plan.slots) {
        *pods.entry(slot.node.clone()).or_insert(0) += 1;
    }
    let most = pods.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(node, _)| node).unwrap_or_default()
}
