//! How long a decision takes and what it allocates: `cargo bench -p pd-core`.
//!
//! The bars: a usual decision at most 100 us, the worst at most 1 ms, and 10,000 objects in one
//! tick on one core in at most 15 s, with memories as they are after a day.
//! `core/tests/allocations.rs` holds the number of allocations in the tests.

mod services;

use divan::{AllocProfiler, Bencher, black_box};
use pd_core::{Facts, Memory, Snapshot, Timestamp, audit::laws, audit_after, plan};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn decide(bencher: Bencher<'_, '_>, service: impl Fn(f64) -> Snapshot, rate_rps: f64) {
    let (memory, now) = services::after_a_day(&service, rate_rps);
    let snapshot = service(rate_rps * 1.03);
    bencher.bench_local(|| plan(black_box(&snapshot), black_box(&memory), now));
}

#[divan::bench]
fn typical(bencher: Bencher<'_, '_>) {
    decide(bencher, services::typical, 20.0);
}

#[divan::bench]
fn worst(bencher: Bencher<'_, '_>) {
    decide(bencher, services::worst, 2_000.0);
}

#[divan::bench]
fn audit_of_a_typical(bencher: Bencher<'_, '_>) {
    let (memory, now) = services::after_a_day(services::typical, 20.0);
    let snapshot = services::typical(20.6);
    let decision = plan(&snapshot, &memory, now);
    bencher.bench_local(|| {
        let facts = Facts::of(black_box(&memory), &snapshot, now);
        audit_after(&facts, black_box(&snapshot), black_box(&decision))
    });
}

#[divan::bench]
fn laws_of_a_typical(bencher: Bencher<'_, '_>) {
    let (memory, now) = services::after_a_day(services::typical, 20.0);
    let snapshot = services::typical(20.6);
    let decision = plan(&snapshot, &memory, now);
    bencher.bench_local(|| laws(black_box(&snapshot), now, black_box(&decision)));
}

/// One tick of 10,000 objects, each with its own memory.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn ten_thousand_objects(bencher: Bencher<'_, '_>) {
    let (memory, now) = services::after_a_day(services::typical, 20.0);
    let objects: Vec<(Snapshot, Memory)> = (0..10_000_u32)
        .map(|index| {
            (
                services::typical(10.0 + f64::from(index) / 500.0),
                memory.clone(),
            )
        })
        .collect();
    bencher.bench_local(|| tick(black_box(&objects), now));
}

fn tick(objects: &[(Snapshot, Memory)], now: Timestamp) -> Vec<Memory> {
    let decided = objects.iter().map(|(snapshot, memory)| {
        let decision = plan(snapshot, memory, now);
        let facts = Facts::of(memory, snapshot, now);
        assert!(audit_after(&facts, snapshot, &decision).is_empty());
        decision.memory
    });
    decided.collect()
}
