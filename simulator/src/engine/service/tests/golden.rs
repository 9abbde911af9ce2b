//! A small run of everything, told to the nanosecond: whatever changes it changes what users saw.

use std::fmt::Write;

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

#[test]
fn a_small_run_is_the_same_on_every_machine() {
    let profile = Profile {
        kv_capacity_tokens: 6_000,
        prefill_step_tokens: 1_024,
        ..Profile::default()
    };
    let mut service = service(profile, 2, 2);
    let mut text = String::from("id arrived first_token finished restarts\n");
    let mut outcomes = Vec::new();
    // Whole numbers alone: a logarithm may differ in its last digit from machine to machine.
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut at = 0;
    for index in 0..84 {
        at += rng.random_range(0..SECOND / 7);
        service.offer(Arrival {
            at,
            input_tokens: rng.random_range(1..1_400),
            output_tokens: rng.random_range(1..300),
            prompt: None,
        });
        match index {
            20 => service.remove_worker(at, "p0", Removal::Drain).unwrap(),
            25 => service
                .add_worker_ready_at(at, Role::Prefill, "p2", at + SECOND)
                .unwrap(),
            40 => service.remove_worker(at, "d1", Removal::Crash).unwrap(),
            45 => service
                .add_worker_ready_at(at, Role::Decode, "d2", at + SECOND)
                .unwrap(),
            60 => service.remove_worker(at, "p1", Removal::Crash).unwrap(),
            _ => {}
        }
        outcomes.extend(service.drain_outcomes());
    }
    outcomes.extend(finish(&mut service));
    let preempted: u64 = service.workers().map(|w| w.metrics.preemptions).sum();
    for o in &outcomes {
        writeln!(
            text,
            "{} {} {} {} {}",
            o.id, o.arrived_at, o.first_token_at, o.finished_at, o.restarts
        )
        .unwrap();
    }
    writeln!(text, "preempted {preempted}").unwrap();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/engine/service/tests/golden.txt"
    );
    if std::env::var_os("PD_SIM_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(preempted > 0);
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        text, golden,
        "if this is meant, run with PD_SIM_UPDATE_GOLDEN=1"
    );
}
