//! A run in a few hundred pieces of equal length, for plots.
//!
//! Each has the mean of the replicas that were asked for and of those that held GPUs, the requests
//! that came, and how many of them attained the objective. The pieces are as many for a minute as
//! for a week, so that memory does not grow with the run.

use pd_core::{PerRole, Role};

use crate::time::{Nanos, seconds};
use crate::world::Replicas;

/// Pieces of a run.
const PIECES: usize = 288;

/// One piece.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Piece {
    provisioned_nanos: PerRole<f64>,
    requests: u64,
    attained: u64,
}

/// A run by its pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    piece: Nanos,
    length: Nanos,
    pieces: Vec<Piece>,
}

impl Timeline {
    /// An empty one of a run of `length`.
    pub fn new(length: Nanos) -> Self {
        let piece = length.div_ceil(PIECES as Nanos).max(1);
        let count = usize::try_from(length.div_ceil(piece)).unwrap_or(PIECES);
        Self {
            piece,
            length,
            pieces: vec![Piece::default(); count.max(1)],
        }
    }

    fn at(&mut self, at: Nanos) -> Option<&mut Piece> {
        let place = usize::try_from(at / self.piece).unwrap_or(usize::MAX);
        self.pieces.get_mut(place)
    }

    pub(super) fn arrived(&mut self, at: Nanos) {
        if let Some(piece) = self.at(at) {
            piece.requests += 1;
        }
    }

    pub(super) fn attained(&mut self, arrived_at: Nanos) {
        if let Some(piece) = self.at(arrived_at) {
            piece.attained += 1;
        }
    }

    /// Workers were so from `from` until `until`.
    pub(super) fn held(&mut self, from: Nanos, until: Nanos, replicas: PerRole<Replicas>) {
        let mut from = from;
        while from < until {
            let end = ((from / self.piece + 1) * self.piece).min(until);
            if let Some(piece) = self.at(from) {
                for role in Role::ALL {
                    let provisioned = f64::from(replicas[role].provisioned());
                    piece.provisioned_nanos[role] += provisioned * (end - from) as f64;
                }
            }
            from = end;
        }
    }

    /// Length of a piece and how far it reaches into the run.
    fn span(&self, place: usize) -> Nanos {
        let start = place as Nanos * self.piece;
        self.piece.min(self.length.saturating_sub(start)).max(1)
    }

    /// Middle of each piece, hours of the run.
    pub fn hours(&self) -> Vec<f64> {
        let middle =
            |place: usize| seconds(place as Nanos * self.piece + self.span(place) / 2) / 3_600.0;
        (0..self.pieces.len()).map(middle).collect()
    }

    /// Mean replicas of a role that held GPUs, by piece.
    pub fn replicas(&self, role: Role) -> Vec<f64> {
        let mean = |(place, piece): (usize, &Piece)| {
            piece.provisioned_nanos[role] / self.span(place) as f64
        };
        self.pieces.iter().enumerate().map(mean).collect()
    }

    /// Requests per second, by piece.
    pub fn requests_per_second(&self) -> Vec<f64> {
        let rate =
            |(place, piece): (usize, &Piece)| piece.requests as f64 / seconds(self.span(place));
        self.pieces.iter().enumerate().map(rate).collect()
    }

    /// Percent of the requests of each piece that attained the objective; of none, nothing.
    pub fn attainment_percent(&self) -> Vec<Option<f64>> {
        let share = |piece: &Piece| {
            (piece.requests > 0).then(|| piece.attained as f64 / piece.requests as f64 * 100.0)
        };
        self.pieces.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{HOUR, SECOND};

    #[test]
    fn what_is_held_across_pieces_counts_in_each_for_its_part() {
        let mut timeline = Timeline::new(288 * SECOND);
        let mut replicas = PerRole::<Replicas>::default();
        replicas.prefill.ready = 2;
        replicas.decode.draining = 1;
        timeline.held(SECOND / 2, 3 * SECOND, replicas);
        assert_eq!(timeline.replicas(Role::Prefill)[..4], [1.0, 2.0, 2.0, 0.0]);
        assert_eq!(timeline.replicas(Role::Decode)[..4], [0.5, 1.0, 1.0, 0.0]);
        timeline.arrived(SECOND);
        timeline.arrived(SECOND);
        timeline.attained(SECOND);
        assert_eq!(timeline.attainment_percent()[..2], [None, Some(50.0)]);
    }

    #[test]
    fn any_length_has_at_most_288_pieces() {
        for length in [1, SECOND, HOUR, 169 * HOUR + 1] {
            let timeline = Timeline::new(length);
            let pieces = timeline.hours().len();
            assert!((1..=288).contains(&pieces), "{length} {pieces}");
        }
    }
}
