//! How long placing takes: `cargo bench -p pd-placement`.
//!
//! The workload, made the same each time: blocks of 10 racks, racks of 10 nodes, nodes with 8 GPUs,
//! of which others have 0 to 4. Groups are services of 2 to 6 prefill pods with 4 GPUs and 2 to 8
//! decode pods with 2, in lockstep, each in one block, preferably in one rack, with traffic between
//! the roles; every fifth has no required level, every seventh a rack for itself where there is
//! one. They come in 12 sizes, as services made from templates do. `mixed` has sizes that are all
//! different. `node loss` places the same groups again, running, after 1 % of the nodes are gone.
//! Prints the least and the median time with the bar, and fails where the median misses it. A
//! number after `--` changes how often each is done.

#![expect(clippy::unwrap_used, reason = "a failed step of a benchmark ends it")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use pd_placement::{
    Outcome, Placement, Problem, Session,
    group::{Exclusive, Fallback, Group, OnLoss, PodKind, Role, Traffic},
    node::{Node, Occupant},
    place,
    pod::PodShape,
    resources::{CPU, PODS, Resources},
    topology::{Level, Topology},
};

const GPU: &str = "nvidia.com/gpu";
/// The most that 1,000 nodes and 100 groups may take.
const BAR: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let repeats: usize = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(11);
    println!(
        "{:<42}{:>10}{:>10}{:>10}{:>9}",
        "problem", "least", "median", "bar", "placed"
    );
    let mut met = true;
    for (nodes, groups, bar) in [(1_000, 100, Some(BAR)), (5_000, 1_000, None)] {
        let size = format!("{nodes} nodes, {groups} groups");
        let templates = problem(nodes, groups, 12);
        let first = place(&templates);
        met &= report(&size, bar, repeats, &templates);
        met &= report(
            &format!("{size}, mixed"),
            None,
            repeats,
            &problem(nodes, groups, groups),
        );
        met &= report(
            &format!("{size}, node loss"),
            None,
            repeats,
            &after_loss(&templates, &first),
        );
        what_if(&size, &templates);
    }
    if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Times placing and prints a line; whether the bar is met.
fn report(name: &str, bar: Option<Duration>, repeats: usize, problem: &Problem) -> bool {
    let mut times = Vec::new();
    let mut placement = Placement::default();
    for _ in 0..repeats {
        let start = Instant::now();
        placement = place(problem);
        times.push(start.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    let plans = placement.groups.values();
    let there = plans.filter(|plan| plan.outcome == Outcome::Placed).count();
    println!(
        "{name:<42}{:>10}{:>10}{:>10}{there:>9}",
        shown(times[0]),
        shown(median),
        bar.map_or_else(|| "-".to_owned(), shown)
    );
    bar.is_none_or(|bar| median <= bar)
}

/// Times one question on a session that has placed everything.
fn what_if(name: &str, problem: &Problem) {
    let mut session = Session::new(problem);
    let question = [("prefill".to_owned(), 1), ("decode".to_owned(), 1)].into();
    let start = Instant::now();
    let answer = session.what_if("team/g00003", &question).unwrap();
    let took = shown(start.elapsed());
    println!(
        "{:<42}{took:>10}{:>29}",
        format!("{name}, one what-if"),
        answer.sets_at_most
    );
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// The next number of a fixed sequence (Knuth's MMIX).
fn next(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 40).unwrap()
}

fn amounts(pairs: &[(&str, i64)]) -> Resources {
    let named = pairs.iter();
    named
        .map(|(name, amount)| ((*name).to_owned(), *amount))
        .collect()
}

fn problem(nodes: usize, groups: usize, templates: usize) -> Problem {
    let mut state = 1;
    let nodes = (0..nodes).map(|index| {
        let taken = i64::try_from(next(&mut state) % 5).unwrap();
        let rack = index / 10;
        let label = |key: &str, value: String| (key.to_owned(), value);
        Node {
            name: format!("node-{index:05}"),
            labels: [
                label("block", format!("b{}", rack / 10)),
                label("rack", format!("r{}", rack % 10)),
            ]
            .into(),
            is_ready: true,
            allocatable: amounts(&[(GPU, 8), (CPU, 128_000), ("memory", 1 << 40), (PODS, 110)]),
            occupants: vec![Occupant {
                name: format!("other/pod-{index}"),
                requests: amounts(&[(GPU, taken), (CPU, 3_000 * taken), (PODS, 1)]),
                ..Occupant::default()
            }],
            ..Node::default()
        }
    });
    let nodes = nodes.collect();
    let groups = (0..groups).map(|index| service(index, index % templates));
    Problem {
        nodes,
        topology: Topology::new(vec![
            Level::new("block", "block"),
            Level::new("rack", "rack"),
        ])
        .unwrap(),
        groups: groups.collect(),
        ..Problem::default()
    }
}

fn service(index: usize, template: usize) -> Group {
    let mut state = u64::try_from(template).unwrap() + 7;
    let (prefill, decode) = (2 + next(&mut state) % 5, 2 + next(&mut state) % 7);
    let role = |name: &str, gpus: i64, replicas: usize, cpu: usize| Role {
        name: name.to_owned(),
        pods: vec![PodKind {
            name: "engine".to_owned(),
            count: 1,
            shape: PodShape {
                requests: amounts(&[
                    (GPU, gpus),
                    (CPU, 2_000 * gpus + i64::try_from(cpu).unwrap()),
                    ("memory", gpus << 32),
                    (PODS, 1),
                ]),
                ..PodShape::default()
            },
        }],
        min: 1,
        desired: u32::try_from(replicas).unwrap(),
        ..Role::default()
    };
    let mut group = Group {
        name: format!("team/g{index:05}"),
        roles: vec![
            role("prefill", 4, prefill, template),
            role("decode", 2, decode, template),
        ],
        preferred: Some("rack".to_owned()),
        required: (!template.is_multiple_of(5)).then(|| "block".to_owned()),
        traffic: vec![Traffic {
            from: "prefill".to_owned(),
            to: "decode".to_owned(),
            weight: 1,
        }],
        lockstep: true,
        on_loss: OnLoss::Relocate,
        ..Group::default()
    };
    if template % 7 == 3 {
        group.exclusive = Some(Exclusive {
            level: "rack".to_owned(),
            fallback: Fallback::Share,
        });
    }
    group
}

/// The same groups, running, without every hundredth node.
fn after_loss(problem: &Problem, placement: &Placement) -> Problem {
    let mut after = problem.clone();
    for group in &mut after.groups {
        let slots = placement.groups[&group.name].slots.iter();
        let members = slots.enumerate();
        group.members = members
            .map(|(index, slot)| slot.member(format!("{}-{index}", group.name)))
            .collect();
    }
    let mut index = 0;
    after.nodes.retain(|_| {
        index += 1;
        index % 100 != 0
    });
    after
}
