//! The bill: GPUs are held from a pod's getting its place to its being gone, and by nobody else.
//!
//! Through scaling, crashes, failed starts, failed and reclaimed nodes, the GPUs that the replicas
//! of the API server's picture hold are those that nodes have given away, at every moment; and
//! summed over time they are the lifetimes of the pods.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Happening {
    Scale(u32, u32),
    Crash(Role),
    NodeFails(Role, u64),
    Reclaimed(Role, u64, u64),
    PullsFail(bool),
    StartsFail(bool),
    Request(u32),
    Time(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let role = || prop_oneof![Just(Role::Prefill), Just(Role::Decode)];
    prop_oneof![
        4 => (1..6_u32, 1..6_u32).prop_map(|(prefill, decode)| Happening::Scale(prefill, decode)),
        1 => role().prop_map(Happening::Crash),
        1 => (role(), 10..900_u64).prop_map(|(role, lasts)| Happening::NodeFails(role, lasts)),
        1 => (role(), 0..120_u64, 10..900_u64)
            .prop_map(|(role, notice, lasts)| Happening::Reclaimed(role, notice, lasts)),
        1 => any::<bool>().prop_map(Happening::PullsFail),
        1 => any::<bool>().prop_map(Happening::StartsFail),
        6 => (1..4_000_u32).prop_map(Happening::Request),
        6 => (1..120_u64).prop_map(Happening::Time),
    ]
}

fn lifecycle() -> impl Strategy<Value = Lifecycle> {
    let grace = prop::option::of(0..60_u64);
    (prop::option::of(16..40_u32), grace, 0..20_u64, 0..20_u64).prop_map(
        |(gpus, grace, delay, period)| Lifecycle {
            gpus,
            grace: grace.map(|seconds| seconds * SECOND),
            endpoint_delay: delay * SECOND,
            readiness_period: period * SECOND,
            ..Lifecycle::default()
        },
    )
}

/// Seconds that each pod has held GPUs, and the GPU-seconds of the replicas as they are shown.
#[derive(Debug, Default)]
struct Bill {
    lifetimes: BTreeMap<u64, (u64, u64)>,
    gpu_seconds: u64,
}

impl Bill {
    /// Holds the bill of this second against the nodes and the pods.
    fn add(&mut self, life: &Life, second: u64) {
        let held = |role: Role| {
            let replicas = life.fleet.replicas(role, life.service.now());
            replicas.provisioned() * life.fleet.gpus_per_replica[role]
        };
        let held = held(Role::Prefill) + held(Role::Decode);
        assert_eq!(held, life.fleet.cluster.used(), "at {second} s");
        if let Some(gpus) = life.fleet.lifecycle.gpus {
            assert!(held <= gpus, "{held} of {gpus} GPUs at {second} s");
        }
        self.gpu_seconds += u64::from(held);
        for pod in life.fleet.pods.iter().filter(|pod| !pod.place.is_empty()) {
            let of_pod = pod.place.iter().map(|(_, gpus)| gpus).sum::<u32>();
            assert_eq!(of_pod, life.fleet.gpus_per_replica[pod.role]);
            let (first, last) = self.lifetimes.entry(pod.number).or_insert((second, second));
            assert!(
                second - *last <= 1,
                "pod {} was gone since {first} s",
                pod.number
            );
            *last = second;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn gpu_seconds_are_the_lifetimes_of_the_pods(
        lifecycle in lifecycle(),
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let mut life = Life::of(lifecycle, 2, 2);
        let mut conditions = Conditions::default();
        let mut bill = Bill::default();
        let mut second = 0;
        for happening in happenings {
            match happening {
                Happening::Scale(prefill, decode) => life.scale(prefill, decode),
                Happening::Crash(role) => life.strike(Effect::Crash, role, 1),
                Happening::NodeFails(role, lasts) => life.strike(Effect::NodeFailure, role, lasts),
                Happening::Reclaimed(role, notice, lasts) => {
                    let notice = notice * SECOND;
                    life.strike(Effect::SpotReclaim { notice }, role, lasts);
                }
                Happening::PullsFail(fail) => {
                    conditions.image_pull_fails = PerRole::from_fn(|_| fail);
                    life.fleet.set_conditions(conditions.clone(), &mut life.service);
                }
                Happening::StartsFail(fail) => {
                    conditions.start_failure_share = PerRole::from_fn(|_| if fail { 0.5 } else { 0.0 });
                    life.fleet.set_conditions(conditions.clone(), &mut life.service);
                }
                Happening::Request(output_tokens) => life.offer(output_tokens),
                Happening::Time(seconds) => {
                    for _ in 0..seconds {
                        second += 1;
                        life.until(second);
                        bill.add(&life, second);
                    }
                }
            }
        }
        let gpus = u64::from(life.fleet.gpus_per_replica.prefill);
        let lifetimes = bill.lifetimes.values().map(|(first, last)| (last - first + 1) * gpus);
        prop_assert_eq!(bill.gpu_seconds, lifetimes.sum::<u64>());
        // Names are never given twice, so engines of all lives are told apart.
        let mut names: Vec<_> = life.service.workers().map(|w| w.name.to_owned()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), count);
    }
}
