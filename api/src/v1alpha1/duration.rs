//! Times as users write them: `500ms`, `30s`, `1h30m`.
//!
//! The grammar is that of Kubernetes durations (Go's `time.ParseDuration`) without signs: one or
//! more numbers, each with a unit, where a number may have decimals. The text is kept, so an object
//! never changes by being read; [`DurationText::parse`] gives the exact span in whole nanoseconds.
//!
//! kube's `Duration` reads the same texts and is not used: it multiplies in floating point, panics
//! where the product overflows, and is not there for those who build this crate without kube.
//!
//! `DurationRange` is the one place where a field's bounds are written; the CEL rule and the
//! validation in Rust both come from it.

use std::{fmt, time::Duration};

use pd_core::{replicas::CHANGE_PERIOD_MAX, schedule::DURATION_MAX};
use serde::{Deserialize, Serialize};

/// Most characters of a duration; keeps every sum far inside 290 years, which is all Go can hold.
pub const DURATION_LENGTH_MAX: usize = 16;

/// The texts that are durations, as RE2 for the API server. [`DurationText::parse`] accepts the
/// same.
pub(crate) const DURATION_REGEX: &str =
    "^([0-9]{1,9}([.][0-9]{1,9})?(ns|us|µs|μs|ms|s)|[0-9]{1,6}([.][0-9]{1,9})?(m|h))+$";

/// A span of time as text, such as `500ms` or `1h30m`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationText(pub String);

/// A text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not numbers with units (ns, us, ms, s, m, h)")]
pub struct ParseDurationError;

impl DurationText {
    /// The span, exact to the nanosecond; digits beyond are cut off.
    pub fn parse(&self) -> Result<Duration, ParseDurationError> {
        if self.0.is_empty() || self.0.chars().count() > DURATION_LENGTH_MAX {
            return Err(ParseDurationError);
        }
        let mut rest = self.0.as_str();
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let (term, after) = first_term(rest).ok_or(ParseDurationError)?;
            total = total.checked_add(term).ok_or(ParseDurationError)?;
            rest = after;
        }
        Ok(total)
    }
}

/// The first number with its unit, and what follows it.
fn first_term(text: &str) -> Option<(Duration, &str)> {
    let (whole, rest) = digits(text)?;
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest)?,
        None => ("", rest),
    };
    let unit_end = rest
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let (unit_nanos, digits_max): (u64, usize) = match unit {
        "ns" => (1, 9),
        // The micro sign and the Greek letter look alike; Go accepts both.
        "us" | "\u{b5}s" | "\u{3bc}s" => (1_000, 9),
        "ms" => (1_000_000, 9),
        "s" => (1_000_000_000, 9),
        "m" => (60_000_000_000, 6),
        "h" => (3_600_000_000_000, 6),
        _ => return None,
    };
    if whole.len() > digits_max || fraction.len() > 9 {
        return None;
    }
    let whole_nanos = whole.parse::<u64>().ok()?.checked_mul(unit_nanos)?;
    let fraction_nanos = match fraction.len() {
        0 => 0,
        places => {
            let numerator = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit_nanos);
            u64::try_from(numerator / 10_u128.pow(u32::try_from(places).ok()?)).ok()?
        }
    };
    Some((
        Duration::from_nanos(whole_nanos.checked_add(fraction_nanos)?),
        rest,
    ))
}

/// The leading digits, at least one, and what follows them.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// One more than the most digits of a count below minutes can say.
const COUNT_END: u128 = 1_000_000_000;

/// The longest span that is written, 999999h59m59s: six digits are the most of a count of hours.
const WRITTEN_MAX: Duration = Duration::from_secs(1_000_000 * 3_600 - 1);

impl From<Duration> for DurationText {
    /// The span in its largest units that leave nothing over, such as `1h30m` or `1500ms`, and in
    /// seconds with decimals where these take too many digits, such as `1500.000001s`.
    ///
    /// [`DurationText::parse`] reads each of these texts, and never a longer span than this. Spans
    /// below 100,000 s are exact. A text has few characters, so that longer ones may lose their
    /// last decimals: below 10^9 s less than 10 us, above it the part of a second. A span above
    /// 999999h59m59s becomes that.
    fn from(span: Duration) -> Self {
        let span = span.min(WRITTEN_MAX);
        let (seconds, nanos) = (span.as_secs(), span.as_nanos());
        if span.subsec_nanos() == 0 || u128::from(seconds) >= COUNT_END {
            return Self(whole_seconds(seconds));
        }
        let units = [(1_000_000, "ms"), (1_000, "us"), (1, "ns")];
        let exact = units
            .into_iter()
            .find(|(unit, _)| nanos % unit == 0 && nanos / unit < COUNT_END);
        Self(exact.map_or_else(
            || with_decimals(span),
            |(unit, name)| format!("{}{name}", nanos / unit),
        ))
    }
}

/// Seconds with as many decimals as a text has room for.
fn with_decimals(span: Duration) -> String {
    let mut text = format!("{}.{:09}", span.as_secs(), span.subsec_nanos());
    text.truncate(DURATION_LENGTH_MAX - 1);
    let shown = text.trim_end_matches('0').trim_end_matches('.');
    format!("{shown}s")
}

/// Seconds as hours, minutes and seconds, parts that are zero left out.
fn whole_seconds(seconds: u64) -> String {
    if seconds == 0 {
        return "0s".to_owned();
    }
    let part = |count: u64, unit: &str| {
        if count == 0 {
            String::new()
        } else {
            format!("{count}{unit}")
        }
    };
    part(seconds / 3_600, "h") + &part(seconds / 60 % 60, "m") + &part(seconds % 60, "s")
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bounds of a duration field, inclusive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurationRange {
    /// Shortest accepted span.
    pub(crate) least: Duration,
    /// Longest accepted span.
    pub(crate) most: Duration,
    /// A good value, for messages.
    pub(crate) example: &'static str,
}

impl DurationRange {
    const fn new(least: Duration, most: Duration, example: &'static str) -> Self {
        Self {
            least,
            most,
            example,
        }
    }

    /// The remedy for a value outside the range.
    pub(crate) fn remedy(&self) -> String {
        let (least, most) = (
            DurationText::from(self.least),
            DurationText::from(self.most),
        );
        format!(
            "must be a duration from {least} to {most}, such as {}",
            self.example
        )
    }
}

/// TTFT and TPOT limits.
pub(crate) const LATENCY_TARGET: DurationRange =
    DurationRange::new(Duration::from_millis(1), Duration::from_mins(10), "500ms");
/// The window of the attainment share.
pub(crate) const ATTAINMENT_WINDOW: DurationRange =
    DurationRange::new(Duration::from_mins(1), Duration::from_hours(24), "1h");
/// How long metrics must be missing before the fallback.
pub(crate) const FALLBACK_AFTER: DurationRange =
    DurationRange::new(Duration::from_secs(1), Duration::from_hours(24), "10m");
/// How long a window of a schedule is open.
pub(crate) const SCHEDULE_DURATION: DurationRange =
    DurationRange::new(Duration::from_mins(1), DURATION_MAX, "10h");
/// How long a service must have been idle before it goes to zero.
pub(crate) const IDLE_AFTER: DurationRange =
    DurationRange::new(Duration::from_mins(1), Duration::from_hours(24), "30m");
/// The assumed lead time.
pub(crate) const LEAD_ASSUMED: DurationRange =
    DurationRange::new(Duration::from_secs(1), Duration::from_hours(2), "120s");
/// How long replicas that leave are waited for. Changes of replicas are remembered that long.
pub(crate) const DRAIN_TIMEOUT: DurationRange =
    DurationRange::new(Duration::ZERO, CHANGE_PERIOD_MAX, "10m");
/// When a scale-up request counts as stuck.
pub(crate) const STUCK_AFTER: DurationRange =
    DurationRange::new(Duration::from_mins(1), Duration::from_hours(24), "10m");

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, string::string_regex};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::milliseconds("500ms", Some(500_000_000))]
    #[case::compound("1h30m", Some(5_400_000_000_000))]
    #[case::decimals("1.5s", Some(1_500_000_000))]
    #[case::more_seconds_than_a_minute("300s", Some(300_000_000_000))]
    #[case::micro_sign("1.5µs", Some(1_500))]
    #[case::greek_mu("1.5μs", Some(1_500))]
    #[case::nanoseconds("7ns", Some(7))]
    #[case::zero("0s", Some(0))]
    #[case::any_order("1s1h", Some(3_601_000_000_000))]
    #[case::no_unit("500", None)]
    #[case::unit_alone("ms", None)]
    #[case::empty("", None)]
    #[case::negative("-5s", None)]
    #[case::plus("+5s", None)]
    #[case::space("5 s", None)]
    #[case::days("1d", None)]
    #[case::trailing_number("1h30", None)]
    #[case::bare_point("1.s", None)]
    #[case::leading_point(".5s", None)]
    #[case::too_long("1h1h1h1h1h1h1h1h1h", None)]
    #[case::beyond_what_go_holds("9999999h", None)]
    fn durations_follow_the_kubernetes_grammar(#[case] text: &str, #[case] nanos: Option<u64>) {
        let got = DurationText(text.to_owned()).parse().ok();
        assert_eq!(got, nanos.map(Duration::from_nanos));
    }

    #[rstest]
    #[case::nothing(Duration::ZERO, "0s")]
    #[case::units_that_leave_nothing_over(Duration::from_mins(90), "1h30m")]
    #[case::a_part_of_a_second(Duration::from_millis(1_500), "1500ms")]
    #[case::as_many_microseconds_as_there_are(Duration::from_micros(999_999_999), "999999999us")]
    #[case::one_more(Duration::from_micros(1_000_000_001), "1000.000001s")]
    #[case::minutes_and_a_microsecond(Duration::new(1_500, 1_000), "1500.000001s")]
    #[case::a_second_and_a_nanosecond(Duration::new(1, 1), "1.000000001s")]
    #[case::many_milliseconds(Duration::from_millis(1_000_000_500), "1000000.5s")]
    #[case::the_longest_that_is_exact(Duration::new(99_999, 999_999_999), "99999.999999999s")]
    #[case::the_last_decimals_are_cut(Duration::new(123_456_789, 123_456_789), "123456789.12345s")]
    #[case::no_decimal_is_left(Duration::new(123_456_789, 1), "123456789s")]
    #[case::no_room_for_decimals(Duration::new(1_000_000_000, 999_999_999), "277777h46m40s")]
    #[case::more_than_all_hours(Duration::from_hours(1_000_000), "999999h59m59s")]
    #[case::all(Duration::MAX, "999999h59m59s")]
    fn spans_are_written_in_few_characters(#[case] span: Duration, #[case] want: &str) {
        assert_eq!(DurationText::from(span).0, want);
    }

    /// Spans of every length, with and without parts of a second.
    fn any_span() -> impl Strategy<Value = Duration> {
        let magnitude = |bits: u32| any::<u64>().prop_map(move |value| value >> (64 - bits));
        let seconds = (1_u32..=64).prop_flat_map(magnitude);
        let unit = prop::sample::select(&[1_u32, 1_000, 1_000_000, 1_000_000_000][..]);
        (seconds, 0..1_000_000_000_u32, unit, 0_u32..=32).prop_map(
            |(seconds, nanos, unit, shift)| {
                let nanos = nanos.checked_shr(shift).unwrap_or(0) / unit * unit;
                Duration::new(seconds, nanos)
            },
        )
    }

    proptest! {
        #[test]
        fn spans_survive_the_way_through_text(span in any_span()) {
            let text = DurationText::from(span);
            let read = text.parse();
            prop_assert!(read.is_ok(), "{text}");
            let lost = span.checked_sub(read.unwrap());
            prop_assert!(lost.is_some(), "{text} is longer than {span:?}");
            let may_lose = match span.as_secs() {
                ..100_000 => Duration::ZERO,
                100_000..1_000_000_000 => Duration::from_micros(10),
                1_000_000_000..3_600_000_000 => Duration::from_secs(1),
                _ => Duration::MAX,
            };
            prop_assert!(lost.unwrap() <= may_lose, "{text} of {span:?}");
        }

        #[test]
        fn what_the_crd_accepts_can_be_read(
            text in string_regex(&DURATION_REGEX[1..].replace("+$", "{1,2}")).unwrap(),
        ) {
            prop_assume!(text.chars().count() <= DURATION_LENGTH_MAX);
            prop_assert!(DurationText(text).parse().is_ok());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,20}") {
            let _ = DurationText(text).parse();
        }
    }
}
