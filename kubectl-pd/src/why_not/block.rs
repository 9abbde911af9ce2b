//! For each reason whether it keeps replicas from changing, how far, and the remedy.
//!
//! [`table`] has one line for each reason. Its order is the order of importance: where nothing is
//! decided nothing else matters, where nothing is applied no limit does, and so on down to delays
//! that end by themselves. `{name}` in a remedy is the object.

mod table;

use pd_api::ConditionType;
use pd_core::Reason;
use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

use self::table::BLOCKS;

/// How far a reason goes, the most important first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, IntoStaticStr, VariantArray,
)]
pub enum Importance {
    /// Nothing is decided.
    NotDecided,
    /// Decisions are made and not applied.
    NotApplied,
    /// A direction is closed until somebody acts.
    Stopped,
    /// Replicas are kept from what the objective needs.
    Limited,
    /// It comes later, by itself.
    Delayed,
    /// Decisions rest on less than they could.
    LessKnown,
}

impl Importance {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The changes that are kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Direction {
    /// More replicas and fewer.
    Both,
    /// More replicas.
    Up,
    /// Fewer replicas.
    Down,
}

impl Direction {
    /// The words in a sentence.
    pub const fn as_text(self) -> &'static str {
        match self {
            Self::Both => "scaling up and down",
            Self::Up => "scaling up",
            Self::Down => "scaling down",
        }
    }
}

/// The changes that a reason keeps back, and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The reason.
    pub reason: Reason,
    /// How far it goes.
    pub importance: Importance,
    /// The changes that it keeps back.
    pub direction: Direction,
    /// The condition that shows it while it holds; none where only a step of the decision does.
    pub shown_by: Option<ConditionType>,
    /// The remedy.
    pub remedy: &'static str,
}

/// The block of `reason`; nothing where it keeps nothing back.
pub fn block(reason: Reason) -> Option<&'static Block> {
    BLOCKS.iter().find(|block| block.reason == reason)
}

/// The place of `reason` in the order of importance; blocks that are not listed come last.
pub fn place(reason: Reason) -> usize {
    let found = BLOCKS.iter().position(|block| block.reason == reason);
    found.unwrap_or(BLOCKS.len())
}
