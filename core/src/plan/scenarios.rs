//! The failures that users of other autoscalers report, each as a scenario that must not happen
//! here.
//!
//! Numbers follow the project's catalogue of failures, F1 to F30. Each test is named after the
//! behaviour that must hold. Four take real parts and are elsewhere: counter resets (F3) and two
//! Prometheus replicas (F22) in `tests/tests/signals.rs`, two controllers (F14) and a contended
//! target (F15) in `tests/tests/end_to_end.rs`.

mod ceiling;
mod evidence;
mod faults;
mod in_flight;
mod late;
mod limits;
mod metrics;
mod replicas;
mod sizing;
mod time;

use std::time::Duration;

use crate::{
    signal::Signals,
    snapshot::Snapshot,
    testing::{Load, world::World},
};

const LOAD: Load = Load {
    rate_rps: 20.0,
    prefill_seconds: 0.1,
    output_tokens: 300.0,
};

const MINUTE: Duration = Duration::from_mins(1);

/// A service that has served `load` for an hour, with a start-up time of two minutes.
fn steady(load: Load) -> World {
    let mut world = World::new(4, 4, load);
    world.start_up = 2 * MINUTE;
    world.run(60 * MINUTE);
    world.history.clear();
    world
}

fn prometheus_down(snapshot: &mut Snapshot) {
    snapshot.signals = Signals::default();
}
