//! The setting that a search found for a policy.

use pd_core::PerRole;

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tuned {
    /// A peer's aggressiveness; 1 is its default.
    Aggressiveness(PerRole<f64>),
    /// The attainment that the product is given, percent.
    AttainmentPercent(u8),
}

impl Tuned {
    /// The aggressiveness, of a peer.
    pub(super) const fn aggressiveness(self) -> Option<PerRole<f64>> {
        match self {
            Self::Aggressiveness(found) => Some(found),
            Self::AttainmentPercent(_) => None,
        }
    }

    /// The attainment in percent, of the product.
    pub(super) const fn attainment_percent(self) -> Option<u8> {
        match self {
            Self::Aggressiveness(_) => None,
            Self::AttainmentPercent(percent) => Some(percent),
        }
    }
}
