//! A decision allocates little: a number that is counted, not timed, so that it holds on any
//! machine.
//!
//! `cargo bench -p pd-core` measures the time. A count that rises shows a clone in a loop long
//! before anybody waits for it; raise a limit here only with a reason.

#[path = "../benches/plan/services.rs"]
mod services;

use pd_core::{Memory, Reason, Snapshot, plan};

/// Allocations of one decision after a day, with the memory that it returns.
fn allocations(service: impl Fn(f64) -> Snapshot, rate_rps: f64) -> u64 {
    let (memory, now) = services::after_a_day(&service, rate_rps);
    let snapshot = service(rate_rps * 1.03);
    let counted = allocation_counter::measure(|| {
        std::hint::black_box(plan(&snapshot, &memory, now));
    });
    counted.count_total
}

#[test]
fn a_usual_decision_allocates_little() {
    let count = allocations(services::typical, 20.0);
    eprintln!("{count} allocations");
    assert!(count <= 700, "{count} allocations");
}

#[test]
fn the_worst_decision_allocates_little() {
    let report = plan(
        &services::worst(2_000.0),
        &Memory::default(),
        services::START,
    )
    .report;
    eprintln!("{}", report.paragraph());
    assert!(report.need.prefill > Some(300) && report.has(Reason::BudgetLimited));
    let count = allocations(services::worst, 2_000.0);
    eprintln!("{count} allocations");
    assert!(count <= 600, "{count} allocations");
}
