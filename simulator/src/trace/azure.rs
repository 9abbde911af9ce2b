//! Azure LLM inference traces: CSV with `TIMESTAMP`, `ContextTokens` and `GeneratedTokens`.
//!
//! Times are dates with up to nine digits of a second, in 2024 with an offset from UTC; the first
//! request is the start of the trace. Source: `Azure/AzurePublicDataset`, its descriptions of 2023
//! and 2024.

use super::csv_rows::CsvRows;
use super::{Row, Rows, TraceFault};
use crate::engine::Arrival;

/// The columns, in the order they are read.
pub(super) const COLUMNS: &[&str] = &["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Rows of a file in this format.
pub(super) struct Azure {
    rows: CsvRows,
    first_nanos: Option<i128>,
}

impl Azure {
    pub(super) fn new(rows: CsvRows) -> Self {
        Self {
            rows,
            first_nanos: None,
        }
    }
}

impl Rows for Azure {
    fn read(&mut self) -> Result<Option<Row>, TraceFault> {
        if !self.rows.advance()? {
            return Ok(None);
        }
        let nanos = self.rows.text(0).and_then(unix_nanos).ok_or_else(|| {
            let remedy = "write a date and a time such as 2024-05-14 00:00:00.009930+00:00";
            self.rows.refused(0, remedy)
        })?;
        let first = *self.first_nanos.get_or_insert(nanos);
        let since = u64::try_from(nanos - first).ok();
        let arrival = Arrival {
            at: since.unwrap_or_default(),
            input_tokens: self.rows.tokens(1)?,
            output_tokens: self.rows.tokens(2)?,
            prompt: None,
        };
        Ok(Some(Row {
            before_start: since.is_none(),
            ..Row::of(arrival)
        }))
    }

    fn line(&self) -> u64 {
        self.rows.line()
    }

    fn write_time(&self, text: &mut String) -> &'static str {
        text.push_str(self.rows.text(0).unwrap_or_default());
        COLUMNS[0]
    }
}

/// Nanoseconds since 1970 of `2024-05-14 00:00:00.009930+00:00`; without an offset it is UTC.
fn unix_nanos(text: &str) -> Option<i128> {
    let (date, rest) = text.split_once([' ', 'T'])?;
    let (clock, offset) = match rest.find(['+', '-', 'Z', 'z']) {
        Some(place) => rest.split_at_checked(place)?,
        None => (rest, ""),
    };
    let [year, month, day] = numbers(date, '-')?;
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(whole, ':')?;
    let valid = (1..=9_999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !valid {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
        - offset_seconds(offset)?;
    Some(i128::from(seconds) * NANOS_PER_SECOND + i128::from(fraction_nanos(fraction)?))
}

/// Three whole numbers between separators.
fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

/// `123` is 123 ms; digits beyond the ninth are dropped.
fn fraction_nanos(digits: &str) -> Option<i64> {
    let is_digit = |byte: u8| byte.is_ascii_digit();
    if !digits.bytes().all(is_digit) {
        return None;
    }
    let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(nine.fold(0, |nanos, digit| nanos * 10 + i64::from(digit - b'0')))
}

/// `+02:00`, `-0130`, `Z` or nothing.
fn offset_seconds(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first() {
        None => return Some(0),
        Some(b'Z' | b'z') => return (text.len() == 1).then_some(0),
        Some(b'-') => (-1, &text[1..]),
        Some(_) => (1, &text[1..]),
    };
    let digits = digits.replace(':', "");
    let number: i64 = digits.parse().ok()?;
    let (hours, minutes) = match digits.len() {
        2 => (number, 0),
        4 => (number / 100, number % 100),
        _ => return None,
    };
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Days of the Gregorian calendar; years begin in March so that the leap day ends one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month > 2 { year } else { year - 1 };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1970-01-01 00:00:00", 0)]
    #[case("2000-03-01T00:00:00Z", 951_868_800_000_000_000)]
    #[case("2023-11-16 18:15:46.6805900", 1_700_158_546_680_590_000)]
    #[case("2024-02-29 00:00:00.009930+00:00", 1_709_164_800_009_930_000)]
    #[case("2024-02-29 02:00:00+02:00", 1_709_164_800_000_000_000)]
    #[case("2024-02-28 22:30:00-0130", 1_709_164_800_000_000_000)]
    fn dates_are_those_of_the_calendar(#[case] text: &str, #[case] nanos: i128) {
        assert_eq!(unix_nanos(text), Some(nanos));
    }

    #[rstest]
    #[case("")]
    #[case("2024-02-29")]
    #[case("2024-13-01 00:00:00")]
    #[case("2024-01-01 24:00:00")]
    #[case("2024-01-01 00:00")]
    #[case("2024-01-01 00:00:00.12x")]
    #[case("2024-01-01 00:00:00+é")]
    #[case("-5")]
    fn other_texts_are_no_dates(#[case] text: &str) {
        assert_eq!(unix_nanos(text), None);
    }
}
