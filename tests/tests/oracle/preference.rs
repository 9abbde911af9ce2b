//! Score order: a scheduler profile that scores by taints alone puts the nodes of a group in the
//! same order.
//!
//! Scores are read from the schedulers' own logs, for where a pod goes shows the best node only.
//! Where the native scheduler prefers one node to another, ours must. Where it does not care, ours
//! may care for the margin of a numeric toleration, and for nothing else.

use std::collections::{BTreeMap, HashMap};

use pd_tests::control_plane::Component;
use pd_tolerations::{Effect, Taint, Toleration};
use serde_json::{Value, json};

use crate::{
    difference::{Difference, Tally},
    generate::Generator,
    planes::{PREFERENCE, Plane, Planes, Seen},
};

const GROUPS: usize = 24;
const GROUP_LABEL: &str = "tests.pdautoscaler.io/group";
const NODES_MAX: usize = 6;
const EFFECTS: [Effect; 5] = [
    Effect::PreferNoSchedule,
    Effect::PreferNoSchedule,
    Effect::PreferNoSchedule,
    Effect::PreferNoSchedule,
    Effect::NoSchedule,
];

struct Case {
    name: String,
    group: usize,
    tolerations: Vec<Toleration>,
}

impl Case {
    fn pod(&self) -> Value {
        json!({
            "metadata": { "name": self.name },
            "spec": {
                "schedulerName": PREFERENCE,
                "containers": [{ "name": "c", "image": "x" }],
                "terminationGracePeriodSeconds": 0,
                "nodeSelector": { GROUP_LABEL: self.group.to_string() },
                "tolerations": self.tolerations,
            },
        })
    }
}

/// The scores of a pod by node.
type Scores = BTreeMap<String, i64>;

/// Puts `count` pods with a choice of nodes to both.
pub(crate) async fn compare(planes: &Planes, seed: u64, count: usize, tally: &mut Tally) {
    let mut generator = Generator::new(seed, 3);
    let mut nodes = Vec::new();
    let mut taints_of_group: Vec<Vec<Taint>> = Vec::new();
    for group in 0..GROUPS {
        let mut all = Vec::new();
        for index in 0..2 + generator.below(NODES_MAX - 1) {
            let taints = generator.taints(4, &EFFECTS);
            all.extend(taints.clone());
            let labels = BTreeMap::from([(GROUP_LABEL.to_owned(), group.to_string())]);
            nodes.push((format!("group-{group}-{index}"), labels, taints));
        }
        taints_of_group.push(all);
    }
    planes.add_nodes(&nodes).await;
    let cases: Vec<Case> = (0..count)
        .map(|index| {
            let group = index % GROUPS;
            Case {
                name: format!("choice-{index}"),
                group,
                tolerations: generator.tolerations(&taints_of_group[group]),
            }
        })
        .collect();
    let pods: Vec<Value> = cases.iter().map(Case::pod).collect();
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    futures::future::join_all(planes.both().map(|plane| async {
        plane.create(&pods).await;
        let decided = |seen: &Seen| seen.node.is_some() || seen.unschedulable.is_some();
        plane
            .until("pods are bound or refused", &names, decided)
            .await;
    }))
    .await;
    let [native, ours] = planes.both().map(scores);
    let mut pairs = 0;
    for case in &cases {
        let (Some(native), Some(ours)) = (native.get(&case.name), ours.get(&case.name)) else {
            // One node or none is left, and nothing is scored; which one is a matter of
            // feasibility.
            let [native, ours] = planes.both().map(|plane| plane.seen(&case.name).node);
            tally.case("feasibility");
            if native != ours {
                tally.fail(format!("{}: {native:?} {ours:?}", json!(case.tolerations)));
            }
            continue;
        };
        tally.case("score order");
        pairs += native.len() * (native.len() - 1) / 2;
        judge(case, native, ours, tally);
    }
    eprintln!("score order: {pairs} pairs of nodes compared");
}

fn judge(case: &Case, native: &Scores, ours: &Scores, tally: &mut Tally) {
    let told = || {
        format!(
            "{}: native {native:?} ours {ours:?}",
            json!(case.tolerations)
        )
    };
    if native.keys().ne(ours.keys()) {
        tally.fail(told());
        return;
    }
    let is_numeric = case.tolerations.iter().any(|one| one.operator.is_numeric());
    let mut ties_broken = false;
    for (one, score) in native {
        for (other, than) in native {
            let (by_us, than_by_us) = (ours[one], ours[other]);
            if score > than && by_us <= than_by_us {
                tally.fail(format!("{one} and {other} of {}", told()));
                return;
            }
            ties_broken |= score == than && by_us != than_by_us;
        }
    }
    if ties_broken && is_numeric {
        tally.differs(Difference::MarginsBreakTies);
    } else if ties_broken {
        tally.fail(told());
    }
}

/// The last final scores that a plane's scheduler logged, by pod and node.
fn scores(plane: &Plane) -> HashMap<String, Scores> {
    let log = plane.cluster.process(Component::Scheduler).unwrap().log();
    let mut scores: HashMap<String, Scores> = HashMap::new();
    for line in log
        .lines()
        .filter(|line| line.contains("final score for pod"))
    {
        let value = |name: &str| {
            let rest = line.split_once(&format!(" {name}=")).unwrap().1;
            rest.split(' ').next().unwrap().trim_matches('"')
        };
        let pod = value("pod").rsplit('/').next().unwrap().to_owned();
        let score = value("score").parse().unwrap();
        scores
            .entry(pod)
            .or_default()
            .insert(value("node").to_owned(), score);
    }
    assert!(
        !scores.is_empty(),
        "{}: the scheduler logs no scores",
        plane.name
    );
    scores
}
