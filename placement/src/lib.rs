//! Places groups of prefill and decode pods: all of a group or nothing, and near each other.
//!
//! One pure function decides: [`place`](place()) takes nodes, groups and reservations
//! ([`Problem`]), and gives for every group where its pods go, or why they go nowhere
//! ([`Placement`]). It has no Kubernetes client, no clock, no environment, no file and no
//! randomness: the same facts give the same placement on every machine. A controller, an extender,
//! a command line and a simulator can all call it, and [`audit`](audit::audit) checks what any of
//! them is about to do.
//!
//! The search of one group is exact, not greedy: partial placements of each node, rack and block
//! are combined with the least cost for every count of pods. It is bounded, and says when it hit
//! the bound. Between groups there is a strict order.
//!
//! Kubernetes objects are read by [`manifest`], which refuses by name what is not modelled, so that
//! no constraint is ever dropped in silence.

pub mod audit;
pub mod explain;
pub mod group;
pub mod manifest;
pub mod node;
pub mod objective;
pub mod picture;
pub mod place;
pub mod plan;
pub mod pod;
pub mod port;
pub mod problem;
pub mod quantity;
pub mod resources;
pub mod selector;
pub mod topology;
pub mod what_if;

pub use place::{Session, place};
pub use plan::{GroupPlan, Outcome, Placement, Slot};
pub use problem::Problem;
