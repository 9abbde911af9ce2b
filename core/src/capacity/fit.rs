//! Weighted least squares for three features, with coefficients that are never negative.
//!
//! Both models of a replica are sums of three terms: prefill over 1, tokens and tokens squared,
//! decode over 1, batch and batch times context. Physics forbids a negative term, and a fit with
//! one would promise the impossible outside what was measured; so the best fit among those without
//! is taken, by trying every set of terms.
//!
//! A fit needs a few sums of the past, which fade: memory stays small whatever was seen.

use serde::{Deserialize, Serialize};

/// One observation's features.
pub(super) type Features = [f64; 3];

/// The sums that a least-squares fit is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sums {
    /// Weight of everything seen.
    pub(super) weight: f64,
    /// Products of features: 00, 01, 02, 11, 12, 22.
    products: [f64; 6],
    /// Products of features and result.
    results: [f64; 3],
}

impl Sums {
    /// Multiplies the weight of everything seen by `keep`.
    pub(super) fn fade(&mut self, keep: f64) {
        self.weight *= keep;
        for sum in self.products.iter_mut().chain(&mut self.results) {
            *sum *= keep;
        }
    }

    /// Takes in one observation. Callers pass features and results of moderate size.
    pub(super) fn add(&mut self, features: Features, result: f64, weight: f64) {
        self.weight += weight;
        let mut at = 0;
        for row in 0..3 {
            for column in row..3 {
                self.products[at] += weight * features[row] * features[column];
                at += 1;
            }
            self.results[row] += weight * features[row] * result;
        }
    }

    /// Means of features and result, once anything was seen.
    pub(super) fn means(&self) -> Option<(Features, f64)> {
        let [ones, first, second, ..] = self.products;
        let weight = self.weight;
        let means = [ones, first, second].map(|sum| sum / weight);
        (weight > 0.0).then(|| (means, self.results[0] / weight))
    }

    /// Standard deviation of the second feature, where the first is 1.
    pub(super) fn spread(&self) -> f64 {
        if self.weight <= 0.0 {
            return 0.0;
        }
        let mean = self.products[1] / self.weight;
        (self.products[3] / self.weight - mean * mean)
            .max(0.0)
            .sqrt()
    }

    /// The coefficients, none negative, with the least squared error, where each of them is drawn
    /// to `prior` as strongly as by `pull` of squared feature. Nothing if the sums do not
    /// determine them.
    pub(super) fn solve(&self, prior: Features, pull: Features) -> Option<Features> {
        let of = self.products;
        let mut matrix = [
            [of[0], of[1], of[2]],
            [of[1], of[3], of[4]],
            [of[2], of[4], of[5]],
        ];
        let mut right = self.results;
        for term in 0..3 {
            matrix[term][term] += pull[term];
            right[term] += pull[term] * prior[term];
        }
        let candidates = (1_u8..8).filter_map(|terms| solve_terms(&matrix, &right, terms));
        let loss = |solution: &Features| -> f64 {
            let quadratic: f64 = (0..3)
                .flat_map(|row| (0..3).map(move |column| (row, column)))
                .map(|(row, column)| solution[row] * matrix[row][column] * solution[column])
                .sum();
            let linear: f64 = (0..3).map(|term| solution[term] * right[term]).sum();
            quadratic - 2.0 * linear
        };
        candidates
            .filter(|solution| solution.iter().all(|c| c.is_finite() && *c >= 0.0))
            .min_by(|one, other| loss(one).total_cmp(&loss(other)))
    }
}

/// Solves for the terms whose bit is set in `terms`; the others are zero.
fn solve_terms(matrix: &[[f64; 3]; 3], right: &Features, terms: u8) -> Option<Features> {
    let chosen: Vec<usize> = (0..3).filter(|term| terms & (1 << term) != 0).collect();
    let mut rows: Vec<Vec<f64>> = chosen
        .iter()
        .map(|&row| {
            let mut line: Vec<f64> = chosen.iter().map(|&column| matrix[row][column]).collect();
            line.push(right[row]);
            line
        })
        .collect();
    let size = chosen.len();
    for step in 0..size {
        let pivot = (step..size).max_by(|&i, &j| {
            let (one, other) = (rows[i][step].abs(), rows[j][step].abs());
            one.total_cmp(&other)
        })?;
        rows.swap(step, pivot);
        // Relative to the term's own sum of squares: below it there is only rounding.
        let own = matrix[chosen[step]][chosen[step]].abs();
        if rows[step][step].abs() <= own * 1e-12 {
            return None;
        }
        let pivot_row = rows[step].clone();
        for row in rows.iter_mut().skip(step + 1) {
            let factor = row[step] / pivot_row[step];
            for (value, above) in row.iter_mut().zip(&pivot_row).skip(step) {
                *value -= factor * above;
            }
        }
    }
    let mut solution = [0.0; 3];
    for step in (0..size).rev() {
        let known: f64 = (step + 1..size)
            .map(|later| rows[step][later] * solution[chosen[later]])
            .sum();
        solution[chosen[step]] = (rows[step][size] - known) / rows[step][step];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums(points: &[(Features, f64)]) -> Sums {
        let mut sums = Sums::default();
        for &(features, result) in points {
            sums.add(features, result, 1.0);
        }
        sums
    }

    proptest! {
        #[test]
        fn what_was_made_of_three_terms_is_found_again(
            a in 0.1f64..10.0, b in 0.1f64..10.0, c in 0.1f64..10.0,
        ) {
            let points: Vec<_> = (1..10)
                .map(f64::from)
                .map(|x| ([1.0, x, x * x], a + b * x + c * x * x))
                .collect();
            let found = sums(&points).solve([0.0; 3], [0.0; 3]).unwrap();
            for (found, made) in found.into_iter().zip([a, b, c]) {
                prop_assert!((found / made - 1.0).abs() < 1e-5, "{found} {made}");
            }
        }

        #[test]
        fn no_coefficient_is_negative_and_none_can_be_moved_for_the_better(
            points in prop::collection::vec(((0.0f64..9.0, 0.0f64..9.0), -5.0f64..5.0), 3..12),
        ) {
            let points: Vec<(Features, f64)> =
                points.into_iter().map(|((x, z), y)| ([1.0, x, z], y)).collect();
            let pull = [1e-3; 3];
            let loss = |theta: Features| -> f64 {
                let error: f64 = points
                    .iter()
                    .map(|(x, y)| (x[0] * theta[0] + x[1] * theta[1] + x[2] * theta[2] - y).powi(2))
                    .sum();
                error + theta.iter().zip(pull).map(|(t, p)| p * t * t).sum::<f64>()
            };
            let Some(best) = sums(&points).solve([0.0; 3], pull) else {
                // Every term pays nothing: all of them zero is the best.
                for term in 0..3 {
                    let mut moved = [0.0; 3];
                    moved[term] = 1e-3;
                    prop_assert!(loss(moved) >= loss([0.0; 3]));
                }
                return Ok(());
            };
            for term in 0..3 {
                prop_assert!(best[term] >= 0.0);
                for step in [-1e-3, 1e-3] {
                    let mut moved = best;
                    moved[term] = (moved[term] + step).max(0.0);
                    prop_assert!(loss(moved) >= loss(best) - 1e-9);
                }
            }
        }
    }

    #[test]
    fn terms_that_cannot_be_separated_are_left_to_the_prior() {
        let same = sums(&[([1.0, 2.0, 4.0], 8.0); 5]);
        // 8 = 2 + 2 + 4 by the prior, which already fits.
        let found = same.solve([2.0, 1.0, 1.0], [1e-3; 3]).unwrap();
        for (found, prior) in found.into_iter().zip([2.0, 1.0, 1.0]) {
            assert!((found - prior).abs() < 1e-9, "{found} {prior}");
        }
    }
}
