//! Random lives of a service: whatever workers come, drain and crash, no request is lost.

use proptest::prelude::*;

use super::*;

/// One step of a random life of a service.
#[derive(Clone, Debug)]
enum Step {
    Offer {
        gap: Nanos,
        input_tokens: u32,
        output_tokens: u32,
    },
    Add {
        role: Role,
        delay: Nanos,
    },
    Remove {
        pick: usize,
        crash: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let offer =
        (0..SECOND / 2, 1..3000u32, 1..600u32).prop_map(|(gap, input, output)| Step::Offer {
            gap,
            input_tokens: input,
            output_tokens: output,
        });
    let role = prop_oneof![Just(Role::Prefill), Just(Role::Decode)];
    let add = (role, 0..3 * SECOND).prop_map(|(role, delay)| Step::Add { role, delay });
    let remove =
        (any::<usize>(), any::<bool>()).prop_map(|(pick, crash)| Step::Remove { pick, crash });
    prop_oneof![20 => offer, 1 => add, 1 => remove]
}

fn live(steps: &[Step], kv_capacity_tokens: u64) -> Vec<RequestOutcome> {
    let profile = Profile {
        kv_capacity_tokens,
        max_batch: 24,
        ..Profile::default()
    };
    let mut service = service(profile, 1, 1);
    let mut now = 0;
    let mut offered = 0;
    let mut outcomes = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match *step {
            Step::Offer {
                gap,
                input_tokens,
                output_tokens,
            } => {
                now += gap;
                offered += 1;
                service.offer(Arrival {
                    at: now,
                    input_tokens,
                    output_tokens,
                    prompt: None,
                });
            }
            Step::Add { role, delay } => service
                .add_worker_ready_at(now, role, &format!("w{index}"), now + delay)
                .unwrap(),
            Step::Remove { pick, crash } => {
                let names: Vec<_> = service.workers().map(|w| w.name.to_owned()).collect();
                let removal = if crash {
                    Removal::Crash
                } else {
                    Removal::Drain
                };
                if let Some(name) = names.get(pick % names.len().max(1)) {
                    service.remove_worker(now, name, removal).unwrap();
                }
            }
        }
        for worker in service.decode.members() {
            assert!(worker.core.kv_blocks_at(now) <= kv_capacity_tokens / 16);
        }
        for worker in service.prefill.members() {
            assert!(worker.core.kv_blocks_used() <= kv_capacity_tokens / 16);
        }
        outcomes.extend(service.drain_outcomes());
        assert_eq!(service.in_flight() + outcomes.len(), offered);
    }
    service
        .add_worker_ready_at(now, Role::Prefill, "last-p", now)
        .unwrap();
    service
        .add_worker_ready_at(now, Role::Decode, "last-d", now)
        .unwrap();
    outcomes.extend(finish(&mut service));
    outcomes
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(96)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_request_ends_exactly_once(
        steps in prop::collection::vec(step(), 1..300),
        capacity in 4_000u64..40_000,
    ) {
        let outcomes = live(&steps, capacity);
        let mut ids: Vec<_> = outcomes.iter().map(|o| o.id).collect();
        ids.sort_unstable();
        let offered = steps.iter().filter(|s| matches!(s, Step::Offer { .. })).count() as u64;
        prop_assert_eq!(ids, (0..offered).collect::<Vec<_>>());
        for outcome in &outcomes {
            prop_assert_eq!(outcome.ending, Ending::Completed);
            prop_assert!(outcome.arrived_at < outcome.first_token_at);
            prop_assert!(outcome.first_token_at <= outcome.finished_at);
        }
    }

    #[test]
    fn the_same_life_ends_the_same(
        steps in prop::collection::vec(step(), 1..200),
        capacity in 4_000u64..40_000,
    ) {
        prop_assert_eq!(live(&steps, capacity), live(&steps, capacity));
    }
}
