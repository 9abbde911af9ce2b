//! Spans of time as kubectl prints them: two units at most, and fewer the longer it is.
//!
//! The rules are those of Kubernetes' `duration.HumanDuration`, so that an age reads the same here
//! and in `kubectl get`. Pure: now is an argument.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// The time from `since` to `now`, as kubectl prints an age.
pub fn age(since: &Time, now: Timestamp) -> String {
    human(now.as_second().saturating_sub(since.0.as_second()))
}

/// `seconds` as kubectl prints them. A clock that is a second behind shows nothing odd.
pub fn human(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds, MINUTE, "m", 1, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds, HOUR, "h", MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds, DAY, "d", HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds, YEAR, "y", DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// Whole units, and the rest in the smaller ones where there is one.
fn two(seconds: i64, unit: i64, name: &str, smaller: i64, smaller_name: &str) -> String {
    match seconds % unit / smaller {
        0 => format!("{}{name}", seconds / unit),
        rest => format!("{}{name}{rest}{smaller_name}", seconds / unit),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // The vectors of Kubernetes' own test of HumanDuration.
    #[rstest]
    #[case(-2, "<invalid>")]
    #[case(-1, "0s")]
    #[case(0, "0s")]
    #[case(1, "1s")]
    #[case(70, "70s")]
    #[case(190, "3m10s")]
    #[case(600, "10m")]
    #[case(70 * 60, "70m")]
    #[case(47 * 60, "47m")]
    #[case(191 * 60, "3h11m")]
    #[case(3 * HOUR, "3h")]
    #[case(9 * HOUR + 5 * MINUTE, "9h")]
    #[case(47 * HOUR, "47h")]
    #[case(3 * DAY + 2 * HOUR, "3d2h")]
    #[case(8 * DAY, "8d")]
    #[case(365 * DAY, "365d")]
    #[case(2 * YEAR, "2y")]
    #[case(2 * YEAR + 5 * DAY, "2y5d")]
    #[case(8 * YEAR + 5 * DAY, "8y")]
    fn spans_read_as_in_kubectl(#[case] seconds: i64, #[case] want: &str) {
        assert_eq!(human(seconds), want);
    }
}
