//! Thresholds of margin: where they lie in an interval of numbers, and which of them tell most
//! nodes apart.

use super::super::extension::Interval;

/// Which nodes a pod prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Margin {
    /// Those whose value may worsen most before the pod must go.
    #[default]
    Most,
    /// Those that are just good enough, which keeps the others free.
    Least,
}

/// The thresholds of a label, in the order in which they are given up last.
///
/// Eighths of the way from the least to the largest margin to be expected are halves of what is
/// left towards either end: near the bound a pod would leave soon, and near the other end is where
/// most nodes are when values are shares such as 9995 of 10000. Each next threshold is the one that
/// adds most to the agreement with exact margins over the distributions that `tests/agreement.rs`
/// chooses by.
pub(super) const TELLING: [Threshold; 7] = [
    Threshold::Eighths(6),
    Threshold::Eighths(4),
    Threshold::Beyond,
    Threshold::Eighths(7),
    Threshold::Eighths(2),
    Threshold::Eighths(1),
    Threshold::Tolerated,
];

/// A margin that a number has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threshold {
    /// Any number that is tolerated, which is more than a node promises that has none.
    Tolerated,
    /// So many eighths of the way.
    Eighths(i128),
    /// Ten times the largest number that was expected.
    Beyond,
}

impl Threshold {
    /// Its place among those of a label, from the one that fewest numbers pass.
    pub(super) fn strictness(self, margin: Margin) -> (bool, i128) {
        let place = match self {
            Self::Tolerated => 0,
            Self::Eighths(eighths) => eighths,
            Self::Beyond => i128::MAX,
        };
        match margin {
            Margin::Most => (false, -place),
            Margin::Least => (self == Self::Tolerated, place),
        }
    }
}

/// The margins that are to be expected in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reach {
    /// The largest.
    far: i128,
    /// The least that a number which is not negative can have.
    near: i128,
    /// That of a number ten times as large as any that is expected, where no end keeps numbers
    /// from it.
    beyond: Option<i128>,
}

impl Reach {
    /// The margins in an interval; nothing if no label can hold a number of it.
    ///
    /// Of a lower bound alone the scale is not known. Shares are written of a power of ten, so the
    /// next one above the bound is taken for the largest number: 1000 above 950, 10000 above 9950.
    pub(super) fn of(interval: Interval) -> Option<Self> {
        let least = interval.least.map(i128::from);
        let most = interval.most.map(i128::from);
        let floor = least.unwrap_or(0).max(0);
        let reach = match (least, most) {
            (_, Some(most)) if most < floor => return None,
            (Some(least), None) => {
                let mut top: i128 = 10;
                while top <= floor {
                    top *= 10;
                }
                let margin = |number: i128| number - least + 1;
                Self {
                    far: margin(top),
                    near: margin(floor),
                    beyond: Some(margin(top * 10)),
                }
            }
            (None, Some(most)) => Self {
                far: most + 1,
                near: 1,
                beyond: None,
            },
            (Some(least), Some(most)) => Self {
                far: ((most - least) / 2).min(most) + 1,
                near: 1,
                beyond: None,
            },
            (None, None) => return None,
        };
        Some(reach)
    }

    /// The least margin that passes a threshold.
    pub(super) fn margin(self, threshold: Threshold) -> Option<i128> {
        match threshold {
            Threshold::Tolerated => Some(self.near),
            Threshold::Beyond => self.beyond,
            Threshold::Eighths(eighths) => {
                let way = (self.far - self.near) * eighths;
                Some(self.near + (way + 7) / 8)
            }
        }
    }
}
