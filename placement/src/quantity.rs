//! Amounts as Kubernetes writes them: `500m`, `1.5Gi`, `2e3`.
//!
//! The scheduler counts CPU in thousandths and everything else in whole units, and rounds up. So
//! does this file. It is exact: no floating point, and an amount that is too large is an error.

/// Nanos in one unit: the finest amount that Kubernetes knows.
const NANOS: i128 = 1_000_000_000;

/// An amount of a resource, exact to a billionth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

/// Why a text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Digits are missing, or the suffix is unknown.
    #[error("quantity `{0}` is not understood: write a number with a suffix, such as 500m or 2Gi")]
    Malformed(String),
    /// It does not fit into 64 bits.
    #[error("quantity `{0}` is too large: write at most 8Ei")]
    TooLarge(String),
    /// It is below zero, which no request may be.
    #[error("quantity `{0}` is negative: write zero or more")]
    Negative(String),
}

impl Quantity {
    /// Reads a text, rounding up what is finer than a billionth.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let malformed = || QuantityError::Malformed(text.to_owned());
        let too_large = || QuantityError::TooLarge(text.to_owned());
        if text.starts_with('-') {
            return Err(QuantityError::Negative(text.to_owned()));
        }
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(malformed());
        }
        let digits = format!("{whole}{fraction}");
        let mantissa: i128 = digits.parse().map_err(|_| too_large())?;
        let (multiplier, exponent) = scale(suffix).ok_or_else(malformed)?;
        let places = i32::try_from(fraction.len()).map_err(|_| too_large())?;
        let nanos = shifted(
            mantissa.checked_mul(multiplier).ok_or_else(too_large)?,
            exponent.saturating_add(9).saturating_sub(places),
        )
        .filter(|nanos| *nanos <= i128::from(i64::MAX) * NANOS)
        .ok_or_else(too_large)?;
        Ok(Self { nanos })
    }

    /// Whole units, rounded up.
    pub fn units(self) -> i64 {
        ceil(self.nanos, NANOS)
    }

    /// Thousandths, rounded up; the most that 64 bits hold if it is more.
    pub fn millis(self) -> i64 {
        ceil(self.nanos, NANOS / 1_000)
    }
}

fn ceil(nanos: i128, unit: i128) -> i64 {
    let whole = nanos / unit + i128::from(nanos % unit != 0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

/// `value` times ten to the power of `places`, rounded up.
fn shifted(value: i128, places: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(places.unsigned_abs());
    match power {
        _ if value == 0 => Some(0),
        Some(power) if places >= 0 => value.checked_mul(power),
        Some(power) => Some(value / power + i128::from(value % power != 0)),
        None if places >= 0 => None,
        None => Some(1),
    }
}

/// The factor of a suffix, and its power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1024_i128.pow(power), 0));
    match suffix {
        "" => Some((1, 0)),
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        other => {
            let power = other.strip_prefix(['e', 'E'])?;
            Some((1, power.parse().ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", 0, 0)]
    #[case("1", 1, 1_000)]
    #[case("+8", 8, 8_000)]
    #[case("500m", 1, 500)]
    #[case("1500m", 2, 1_500)]
    #[case("0.1", 1, 100)]
    #[case(".5", 1, 500)]
    #[case("5.", 5, 5_000)]
    #[case("1n", 1, 1)]
    #[case("1001u", 1, 2)]
    #[case("2k", 2_000, 2_000_000)]
    #[case("1E", 1_000_000_000_000_000_000, i64::MAX)]
    #[case("1e3", 1_000, 1_000_000)]
    #[case("1E-3", 1, 1)]
    #[case("1.5Gi", 1_610_612_736, 1_610_612_736_000)]
    #[case("1Ki", 1_024, 1_024_000)]
    #[case("0e99", 0, 0)]
    #[case("1e-99", 1, 1)]
    fn amounts_are_counted_as_the_scheduler_does(
        #[case] text: &str,
        #[case] units: i64,
        #[case] millis: i64,
    ) {
        let quantity = Quantity::parse(text).unwrap();
        assert_eq!((quantity.units(), quantity.millis()), (units, millis));
    }

    #[rstest]
    #[case("", "not understood")]
    #[case(".", "not understood")]
    #[case("Gi", "not understood")]
    #[case("1 Gi", "not understood")]
    #[case("1gi", "not understood")]
    #[case("1.2.3", "not understood")]
    #[case("1e", "not understood")]
    #[case("-1", "negative")]
    #[case("8Ei", "too large")]
    #[case("1e40", "too large")]
    #[case("99999999999999999999999999999999999999999", "too large")]
    fn other_texts_are_refused_with_a_reason(#[case] text: &str, #[case] why: &str) {
        let error = Quantity::parse(text).unwrap_err().to_string();
        assert!(
            error.contains(why) && error.contains(&format!("`{text}`")),
            "{error}"
        );
    }
}
