//! The P:D ratio as the field writes it: two small integers, prefill first, such as `1:2`.
//!
//! Comparisons cross-multiply integers, so a band of 1:2 with 20 % tolerance contains exactly the
//! pairs it should and rounding never decides. The ratio of a service over time is in `state`.

mod state;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::state::{Breach, BreachCause, IN_BAND_AFTER, RatioState, SMOOTHING};

/// Largest number on either side of a ratio.
pub const RATIO_PART_MAX: u32 = 1_000;

/// Largest number on the smaller side of a ratio that is read off the traffic.
pub const RATIO_DENOMINATOR_MAX: u32 = 16;

/// Prefill replicas per decode replicas, both at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ratio {
    prefill: u32,
    decode: u32,
}

/// A text that is no P:D ratio.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "ratio `{text}` must be two whole numbers from 1 to {RATIO_PART_MAX} with a colon, prefill first, such as `1:2`"
)]
pub struct ParseRatioError {
    text: String,
}

impl Ratio {
    /// `prefill:decode`, or nothing if either side is outside 1..=[`RATIO_PART_MAX`].
    pub fn new(prefill: u32, decode: u32) -> Option<Self> {
        let valid = 1..=RATIO_PART_MAX;
        (valid.contains(&prefill) && valid.contains(&decode)).then_some(Self { prefill, decode })
    }

    /// The ratio closest to `prefill_per_decode` whose smaller side is at most
    /// [`RATIO_DENOMINATOR_MAX`]; of two as close, the one with the smaller numbers. Nothing for a
    /// value that is no number above zero; one beyond 1000:1 or 1:1000 becomes that.
    pub fn nearest(prefill_per_decode: f64) -> Option<Self> {
        if !prefill_per_decode.is_finite() || prefill_per_decode <= 0.0 {
            return None;
        }
        let most = f64::from(RATIO_PART_MAX);
        let bounded = prefill_per_decode.clamp(1.0 / most, most);
        let more_prefill = bounded >= 1.0;
        let larger = if more_prefill {
            bounded
        } else {
            bounded.recip()
        };
        let parts = (1..=RATIO_DENOMINATOR_MAX).map(|small| {
            let large = (larger * f64::from(small)).round().clamp(1.0, most);
            (small, large, (large / f64::from(small) - larger).abs())
        });
        // The sliver keeps 6:4, equal to 3:2 but for rounding, from being the closer one.
        let (small, large, _) = parts.reduce(
            |best, next| {
                if next.2 < best.2 - 1e-9 { next } else { best }
            },
        )?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and clamped to 1..=1000"
        )]
        let large = large as u32;
        if more_prefill {
            Self::new(large, small)
        } else {
            Self::new(small, large)
        }
    }

    /// Prefill replicas per decode replica.
    pub fn as_f64(self) -> f64 {
        f64::from(self.prefill) / f64::from(self.decode)
    }

    /// The prefill side.
    pub const fn prefill(self) -> u32 {
        self.prefill
    }

    /// The decode side.
    pub const fn decode(self) -> u32 {
        self.decode
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.prefill, self.decode)
    }
}

impl FromStr for Ratio {
    type Err = ParseRatioError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |s: &str| {
            (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()))
                .then(|| s.parse::<u32>().ok())
                .flatten()
        };
        text.split_once(':')
            .and_then(|(p, d)| Self::new(part(p)?, part(d)?))
            .ok_or_else(|| ParseRatioError {
                text: text.to_owned(),
            })
    }
}

impl TryFrom<String> for Ratio {
    type Error = ParseRatioError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}

/// The P:D pairs a policy accepts: `lowest <= P/D <= highest`, each bound widened by a tolerance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RatioBand {
    /// Least prefill per decode, before tolerance.
    pub lowest: Ratio,
    /// Most prefill per decode, before tolerance.
    pub highest: Ratio,
    /// How far either bound may be passed, percent, 0 to 99.
    pub tolerance_percent: u8,
}

impl RatioBand {
    /// A band around one target.
    pub const fn around(target: Ratio, tolerance_percent: u8) -> Self {
        Self {
            lowest: target,
            highest: target,
            tolerance_percent,
        }
    }

    /// The band with a quarter of its tolerance taken off, rounded up to whole percent.
    #[must_use]
    pub const fn narrowed(self) -> Self {
        Self {
            tolerance_percent: self.tolerance_percent - self.tolerance_percent.div_ceil(4),
            ..self
        }
    }

    /// Whether `prefill`:`decode` lies in the band. A pair with a zero never does.
    pub fn contains(&self, prefill: u32, decode: u32) -> bool {
        prefill > 0
            && decode > 0
            && self.decode_least(prefill) <= u64::from(decode)
            && u64::from(decode) <= self.decode_most(prefill)
    }

    /// Fewest decode replicas that keep `prefill` replicas in the band.
    pub fn decode_least(&self, prefill: u32) -> u64 {
        // P/D <= h_p/h_d * (100+t)/100  <=>  D >= P * h_d * 100 / (h_p * (100+t))
        let numerator = u64::from(prefill) * u64::from(self.highest.decode) * 100;
        let denominator =
            u64::from(self.highest.prefill) * (100 + u64::from(self.tolerance_percent));
        numerator.div_ceil(denominator)
    }

    /// Most decode replicas that keep `prefill` replicas in the band.
    pub fn decode_most(&self, prefill: u32) -> u64 {
        // P/D >= l_p/l_d * (100-t)/100  <=>  D <= P * l_d * 100 / (l_p * (100-t))
        let numerator = u64::from(prefill) * u64::from(self.lowest.decode) * 100;
        let denominator =
            u64::from(self.lowest.prefill) * (100 - u64::from(self.tolerance_percent.min(99)));
        numerator / denominator
    }

    /// Bounds of P/D with the tolerance in, least and most.
    pub fn bounds(&self) -> (f64, f64) {
        let tolerance = f64::from(self.tolerance_percent) / 100.0;
        (
            self.lowest.as_f64() * (1.0 - tolerance),
            self.highest.as_f64() * (1.0 + tolerance),
        )
    }
}

/// A P:D band and which of it and the objective wins when they disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RatioPolicy {
    /// The pairs that are in the band.
    pub band: RatioBand,
    /// The winner when the band and the objective disagree.
    pub enforcement: Enforcement,
}

/// The winner when the ratio band and the objective disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enforcement {
    /// The objective; the breach is reported.
    Soft,
    /// The band; the unmet need is reported.
    Hard,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("1:2", Some((1, 2)))]
    #[case::largest("1000:1", Some((1000, 1)))]
    #[case::zero_prefill("0:2", None)]
    #[case::zero_decode("1:0", None)]
    #[case::over_the_largest("1001:1", None)]
    #[case::sign("+1:2", None)]
    #[case::space("1 :2", None)]
    #[case::fraction("1.5:2", None)]
    #[case::three_parts("1:2:3", None)]
    #[case::empty_side("1:", None)]
    #[case::no_colon("12", None)]
    fn ratios_are_two_small_whole_numbers(#[case] text: &str, #[case] want: Option<(u32, u32)>) {
        let got = text
            .parse::<Ratio>()
            .ok()
            .map(|r| (r.prefill(), r.decode()));
        assert_eq!(got, want);
    }

    #[rstest]
    #[case::on_target(1, 2, true)]
    #[case::one_to_one_is_too_much_prefill(1, 1, false)]
    #[case::one_to_three_is_too_little(1, 3, false)]
    #[case::edge_of_plus_twenty_percent(6, 10, true)]
    #[case::edge_of_minus_twenty_percent(4, 10, true)]
    #[case::no_decode(1, 0, false)]
    #[case::no_prefill(0, 1, false)]
    fn band_of_one_to_two_with_twenty_percent(#[case] p: u32, #[case] d: u32, #[case] want: bool) {
        let band = RatioBand::around(Ratio::new(1, 2).unwrap(), 20);
        assert_eq!(band.contains(p, d), want);
    }

    #[rstest]
    #[case::whole(2.0, "2:1")]
    #[case::half(0.5, "1:2")]
    #[case::lowest_terms(1.5, "3:2")]
    #[case::third(1.0 / 3.0, "1:3")]
    #[case::finer_than_sixteenths(3.31, "43:13")]
    #[case::measured(36.2, "181:5")]
    #[case::tiny(1e-9, "1:1000")]
    #[case::huge(f64::MAX, "1000:1")]
    fn measured_ratios_become_small_numbers(#[case] value: f64, #[case] want: &str) {
        assert_eq!(Ratio::nearest(value).unwrap().to_string(), want);
    }

    #[test]
    fn what_is_no_ratio_has_no_text() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Ratio::nearest(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_small_ratio_is_closer_than_the_nearest(value in 0.01f64..100.0) {
            let got = Ratio::nearest(value).unwrap();
            prop_assert!(got.prefill().min(got.decode()) <= RATIO_DENOMINATOR_MAX);
            let (target, off) = if value >= 1.0 { (value, got.as_f64()) } else { (1.0 / value, 1.0 / got.as_f64()) };
            for small in 1..=RATIO_DENOMINATOR_MAX {
                for large in 1..=RATIO_PART_MAX {
                    let other = (f64::from(large) / f64::from(small) - target).abs();
                    prop_assert!((off - target).abs() <= other + 1e-8);
                }
            }
        }

        #[test]
        fn band_agrees_with_exact_fractions(
            p in 1u32..200, d in 1u32..200, a in 1u32..20, b in 1u32..20, t in 0u8..=99,
        ) {
            let band = RatioBand::around(Ratio::new(a, b).unwrap(), t);
            let t = u32::from(t);
            let want = p * b * 100 <= d * a * (100 + t) && p * b * 100 >= d * a * (100 - t);
            prop_assert_eq!(band.contains(p, d), want);
        }
    }
}
