//! Shares as Kubernetes quantities: `"0.05"`, `50m`, `5e-2`, or the plain number 0.05.
//!
//! The grammar is that of `resource.Quantity` without a minus sign. The value is kept as a text, so
//! that no precision is lost between an object and its copy. The schema has no type, because a
//! structural schema cannot name two and HorizontalPodAutoscaler takes texts and numbers; a pattern
//! and a minimum refuse bad values of either.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Most characters of a quantity.
pub(super) const LENGTH_MAX: usize = 32;

/// The texts that are quantities of at least zero, as RE2 for the API server.
/// [`QuantityText::millionths`] accepts the same.
pub(super) const REGEX: &str =
    "^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,3})?$";

/// Remedy for a text that is no quantity.
pub(crate) const QUANTITY_REMEDY: &str =
    "must be a quantity of at least 0, such as 0.05 or 50m for 5 %";

/// A quantity of at least zero as text, such as `0.05` or `50m`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct QuantityText(pub String);

impl QuantityText {
    /// The value in millionths, rounded; nothing for a text that is no quantity of at least zero.
    /// A value beyond `u32` is as much as `u32` holds.
    pub fn millionths(&self) -> Option<u32> {
        if self.0.len() > LENGTH_MAX {
            return None;
        }
        let text = self.0.strip_prefix('+').unwrap_or(&self.0);
        let number_end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(number_end);
        let value = number.parse::<f64>().ok()? * factor(suffix)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast from floating point saturates, and the value is not negative"
        )]
        let millionths = (value * 1e6).round() as u32;
        Some(millionths)
    }
}

/// The factor that a quantity's suffix stands for.
fn factor(suffix: &str) -> Option<f64> {
    // `1E` is exa and `1Ei` exbi; only digits after the letter make it an exponent.
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .filter(|exponent| exponent.ends_with(|c: char| c.is_ascii_digit()));
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let are_digits = digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        return are_digits
            .then(|| format!("1e{exponent}").parse().ok())
            .flatten();
    }
    Some(match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024_f64,
        "Mi" => 1024_f64.powi(2),
        "Gi" => 1024_f64.powi(3),
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        "Ei" => 1024_f64.powi(6),
        _ => return None,
    })
}

impl fmt::Display for QuantityText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for QuantityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = QuantityText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 0.05 or 50m")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<QuantityText, E> {
                Ok(QuantityText(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<QuantityText, E> {
                // Adding 0 turns -0, which the schema accepts, into 0. Large and small numbers need
                // an exponent to be short enough.
                let number = number + 0.0;
                let plain = number.to_string();
                Ok(QuantityText(if plain.len() <= LENGTH_MAX {
                    plain
                } else {
                    format!("{number:e}")
                }))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, string::string_regex};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::decimal("0.05", Some(50_000))]
    #[case::milli("50m", Some(50_000))]
    #[case::exponent("5e-2", Some(50_000))]
    #[case::capital_exponent("5E-2", Some(50_000))]
    #[case::micro("1500u", Some(1_500))]
    #[case::nano_is_rounded("1600n", Some(2))]
    #[case::whole("1", Some(1_000_000))]
    #[case::zero("0", Some(0))]
    #[case::plus("+0.1", Some(100_000))]
    #[case::no_digit_before_the_point(".5", Some(500_000))]
    #[case::no_digit_after_the_point("1.", Some(1_000_000))]
    #[case::thousands("1k", Some(1_000_000_000))]
    #[case::as_much_as_there_is("1Ei", Some(u32::MAX))]
    #[case::exa("1E", Some(u32::MAX))]
    #[case::empty("", None)]
    #[case::suffix_alone("m", None)]
    #[case::negative("-0.1", None)]
    #[case::percent("5%", None)]
    #[case::two_points("1.2.3", None)]
    #[case::capital_kilo("1K", None)]
    #[case::two_suffixes("1mm", None)]
    #[case::two_signs("1e--2", None)]
    #[case::infinite("inf", None)]
    fn quantities_follow_the_kubernetes_grammar(#[case] text: &str, #[case] want: Option<u32>) {
        assert_eq!(QuantityText(text.to_owned()).millionths(), want);
    }

    #[rstest]
    #[case::fraction("0.05", "0.05")]
    #[case::whole("1", "1")]
    #[case::text("\"50m\"", "50m")]
    #[case::small("1e-300", "1e-300")]
    #[case::smallest("5e-324", "5e-324")]
    #[case::large("1.7976931348623157e308", "1.7976931348623157e308")]
    #[case::short_enough("1e21", "1000000000000000000000")]
    #[case::zero_below_zero("-0.0", "0")]
    fn numbers_and_texts_are_read(#[case] json: &str, #[case] want: &str) {
        let read: QuantityText = serde_json::from_str(json).unwrap();
        assert_eq!(read.0, want);
    }

    proptest! {
        #[test]
        fn texts_of_the_pattern_are_quantities(text in string_regex(&REGEX[1..REGEX.len() - 1]).unwrap()) {
            prop_assume!(text.len() <= LENGTH_MAX);
            prop_assert!(QuantityText(text).millionths().is_some());
        }

        #[test]
        fn numbers_that_the_schema_accepts_can_be_read(number in prop_oneof![0.0..1.0_f64, prop::num::f64::POSITIVE | prop::num::f64::ZERO]) {
            let read: QuantityText = serde_json::from_value(serde_json::Value::from(number)).unwrap();
            let millionths = read.millionths();
            prop_assert!(millionths.is_some(), "{read}");
            let want = (number * 1e6).min(f64::from(u32::MAX));
            prop_assert!((f64::from(millionths.unwrap()) - want).abs() <= 0.5, "{read}");
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,20}") {
            let _ = QuantityText(text).millionths();
        }
    }
}
