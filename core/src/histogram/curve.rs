//! A cumulative distribution between the edges of its buckets.
//!
//! Buckets of latencies double in width, and a tail falls inside them: observations lie near the
//! lower edge of the last bucket that has any. Spread evenly they would show misses that are
//! none. The monotone cubic of Fritsch and Carlson (SIAM J. Numer. Anal. 17, 1980), with the
//! slopes of Fritsch and Butland (SIAM J. Sci. Stat. Comput. 5, 1984), goes through what was
//! counted at each edge, never falls, and bends as the neighbours say.

/// Steps of bisection: enough for all digits of an `f64`.
const BISECTIONS: u32 = 60;

/// A point of the distribution: an edge, and how many observations are at or below it.
type Knot = (f64, f64);

/// The distribution between two edges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Curve {
    low: Knot,
    high: Knot,
    slope_low: f64,
    slope_high: f64,
}

impl Curve {
    /// The curve from `low` to `high`, whose edges rise, with the knots before and after where
    /// there are any.
    pub(super) fn through(
        before: Option<Knot>,
        low: Knot,
        high: Knot,
        after: Option<Knot>,
    ) -> Self {
        let here = secant(low, high);
        Self {
            low,
            high,
            slope_low: before.map_or(here, |before| slope(before, low, high)),
            slope_high: after.map_or(here, |after| slope(low, high, after)),
        }
    }

    /// Observations at or below `edge`, which lies between the two.
    pub(super) fn value(&self, edge: f64) -> f64 {
        let width = self.high.0 - self.low.0;
        if width <= 0.0 {
            return self.high.1;
        }
        self.at(((edge - self.low.0) / width).clamp(0.0, 1.0))
    }

    /// The edge that `count` observations, of those between the two, are at or below.
    pub(super) fn argument(&self, count: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(low, high);
            if self.at(middle) < count {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.low.0 + high * (self.high.0 - self.low.0)
    }

    /// The cubic at a part of the way, 0 to 1.
    fn at(&self, part: f64) -> f64 {
        let (width, left) = (self.high.0 - self.low.0, 1.0 - part);
        let from_low =
            left * left * ((1.0 + 2.0 * part) * self.low.1 + part * width * self.slope_low);
        let from_high =
            part * part * ((1.0 + 2.0 * left) * self.high.1 - left * width * self.slope_high);
        (from_low + from_high).clamp(self.low.1, self.high.1)
    }
}

fn secant(from: Knot, to: Knot) -> f64 {
    let width = to.0 - from.0;
    if width > 0.0 {
        (to.1 - from.1) / width
    } else {
        0.0
    }
}

/// The slope at `here`: a weighted harmonic mean of both sides, so that it is flat where one side
/// is.
fn slope(before: Knot, here: Knot, after: Knot) -> f64 {
    let (left, right) = (secant(before, here), secant(here, after));
    if left <= 0.0 || right <= 0.0 {
        return 0.0;
    }
    let (left_width, right_width) = (here.0 - before.0, after.0 - here.0);
    let (of_left, of_right) = (
        2.0 * right_width + left_width,
        right_width + 2.0 * left_width,
    );
    (of_left + of_right) / (of_left / left + of_right / right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tail_that_ends_in_a_bucket_lies_near_its_lower_edge() {
        // 35 % up to 250 ms, 5 % up to 500 ms, none above.
        let curve = Curve::through(
            Some((0.1, 60.0)),
            (0.25, 95.0),
            (0.5, 100.0),
            Some((0.75, 100.0)),
        );
        let beyond = 100.0 - curve.value(0.469);
        assert!((0.05..0.15).contains(&beyond), "{beyond} %, evenly 0.62 %");
        assert!(
            (0.38..0.42).contains(&curve.argument(99.0)),
            "evenly 450 ms"
        );
    }

    #[test]
    fn an_even_density_stays_even() {
        let curve = Curve::through(
            Some((0.0, 0.0)),
            (1.0, 10.0),
            (2.0, 20.0),
            Some((3.0, 30.0)),
        );
        for part in [0.0, 0.25, 0.5, 0.9, 1.0] {
            assert!((curve.value(1.0 + part) - 10.0 - 10.0 * part).abs() < 1e-9);
        }
    }

    fn knots() -> impl Strategy<Value = [Knot; 4]> {
        let step = || (0.001f64..10.0, prop_oneof![Just(0.0), 0.0f64..1e6]);
        [step(), step(), step(), step()].prop_map(|steps| {
            let mut knot = (0.0, 0.0);
            steps.map(|(width, count)| {
                knot = (knot.0 + width, knot.1 + count);
                knot
            })
        })
    }

    proptest! {
        #[test]
        fn it_never_falls_and_meets_both_edges([a, b, c, d] in knots(), parts in (0.0f64..=1.0, 0.0f64..=1.0)) {
            let curve = Curve::through(Some(a), b, c, Some(d));
            let at = |part: f64| curve.value(b.0 + part * (c.0 - b.0));
            let (first, second) = (at(parts.0.min(parts.1)), at(parts.0.max(parts.1)));
            prop_assert!(first <= second + 1e-9 * c.1);
            prop_assert!((b.1..=c.1).contains(&first) && (b.1..=c.1).contains(&second));
            prop_assert!((curve.value(c.0) - c.1).abs() <= 1e-9 * c.1.max(1.0));
        }

        #[test]
        fn asking_for_a_share_inverts_asking_for_an_edge([a, b, c, d] in knots(), part in 0.0f64..=1.0) {
            let curve = Curve::through(Some(a), b, c, Some(d));
            let count = b.1 + part * (c.1 - b.1);
            let edge = curve.argument(count);
            prop_assert!((b.0..=c.0).contains(&edge));
            prop_assert!(curve.value(edge) >= count - 1e-6 * c.1.max(1.0));
        }
    }
}
