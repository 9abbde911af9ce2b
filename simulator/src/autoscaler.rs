//! Who decides about replicas in a simulated world: the product, and what it is compared with.
//!
//! Each policy is a file of its own below this one and names the source of its rule. All of them
//! see a [`Snapshot`], which is what a scrape of the workers shows; none sees the future except the
//! clairvoyant plan, which is a yardstick and no product. A policy never touches the workers: the
//! world carries its verdict out, and for all policies alike.

mod fixed;
mod foreseen;
mod pdautoscaler;

use std::fmt;

use pd_core::audit::Finding;
use pd_core::{PerRole, Report, Snapshot};

pub use self::fixed::Fixed;
pub use self::foreseen::Foreseen;
pub use self::pdautoscaler::PdAutoscaler;
use crate::time::Nanos;

/// One decision.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Replicas to ask for from now on.
    pub replicas: PerRole<u32>,
    /// Invariants that the plan broke; a plan with any is not in `replicas`.
    pub findings: Vec<Finding>,
    /// Why, if the policy says so.
    pub report: Option<Report>,
}

impl Verdict {
    /// A decision without a word.
    pub fn of(replicas: PerRole<u32>) -> Self {
        Self {
            replicas,
            findings: Vec::new(),
            report: None,
        }
    }
}

/// A policy in the loop.
pub trait Autoscaler: fmt::Debug + Send {
    /// Decides at `now`, time of the run, on what is seen.
    fn decide(&mut self, snapshot: &Snapshot, now: Nanos) -> Verdict;

    /// Whether it reads metrics at all. Without, nothing is scraped and the signals are empty,
    /// which is faster.
    fn reads_metrics(&self) -> bool {
        true
    }
}
