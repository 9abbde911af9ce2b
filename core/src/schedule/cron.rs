//! The starts of a schedule as cron writes them: minute, hour, day of month, month, day of week.
//!
//! croner reads the patterns and finds the starts. This file owns the grammar and the messages:
//! the grammar is that of Kubernetes' `CronJob`, which is narrower than croner's (lists, ranges,
//! steps, English names of months and weekdays, and 7 for Sunday as well; no seconds, no macros
//! such as `@daily`, no `L`, `W`, `#` and `?`), and a message names the field, the part and the
//! remedy, which croner's do not. A day that no year has is refused. Times here are local and know
//! no zone.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{NaiveDate, NaiveDateTime};
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

/// Most characters of a pattern.
pub const CRON_LENGTH_MAX: usize = 128;

/// When a schedule starts, in local time. When both days are restricted, either one is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    /// Shared by copies: it has a byte for every year to 5000.
    parsed: Arc<croner::Cron>,
}

/// A text that says no starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error("has {count} fields; write five, such as `0 8 * * 1-5`")]
    FieldCount {
        /// Fields found.
        count: usize,
    },
    /// Longer than [`CRON_LENGTH_MAX`].
    #[error("is longer than {CRON_LENGTH_MAX} characters; split it into several schedules")]
    TooLong,
    /// A part of a field is no number, name, range or step.
    #[error(
        "has `{part}` for the {field}; write {values}, `*`, a range such as `{range}`, or a list"
    )]
    Part {
        /// The field in words.
        field: &'static str,
        /// The part as written.
        part: String,
        /// The values it may hold.
        values: &'static str,
        /// A good range.
        range: &'static str,
    },
    /// A range ends before it starts.
    #[error("has the range `{part}` for the {field}, which ends before it starts; swap its ends")]
    Backwards {
        /// The field in words.
        field: &'static str,
        /// The part as written.
        part: String,
    },
    /// A step is no number, or follows a single value.
    #[error(
        "has the step `{part}` for the {field}; write `*` or a range, `/`, and a number from 1 to 99"
    )]
    Step {
        /// The field in words.
        field: &'static str,
        /// The part as written.
        part: String,
    },
    /// croner refuses it for a reason of its own.
    #[error("cannot be read: {cause}")]
    Unread {
        /// croner's message.
        cause: String,
    },
    /// Day of month and month never meet.
    #[error(
        "never starts: none of its months has such a day; change the day of month or the month"
    )]
    Never,
}

/// The values of one field.
struct Field {
    name: &'static str,
    least: u16,
    most: u16,
    /// Names of the values from `least` on.
    names: &'static [&'static str],
    values: &'static str,
    range: &'static str,
}

const MINUTE: Field = Field {
    name: "minute",
    least: 0,
    most: 59,
    names: &[],
    values: "0 to 59",
    range: "0-30",
};
const HOUR: Field = Field {
    name: "hour",
    least: 0,
    most: 23,
    names: &[],
    values: "0 to 23",
    range: "8-18",
};
const DAY: Field = Field {
    name: "day of month",
    least: 1,
    most: 31,
    names: &[],
    values: "1 to 31",
    range: "1-15",
};
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &[
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ],
    values: "1 to 12 or JAN to DEC",
    range: "4-9",
};
const WEEKDAY: Field = Field {
    name: "day of week",
    least: 0,
    most: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    values: "0 to 7 or SUN to SAT",
    range: "MON-FRI",
};

/// Most days of each month.
const MONTH_DAYS: [u16; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Field {
    /// The whole field as croner reads it.
    fn checked(&self, text: &str) -> Result<String, CronError> {
        let parts: Result<Vec<String>, _> = text.split(',').map(|part| self.part(part)).collect();
        let parts = parts?;
        // As in CronJob, a step of 1 is no restriction and any other is one. croner takes no `*`
        // in a list; beside one, the other parts add nothing.
        let unrestricted = parts.iter().any(|part| part == "*" || part == "*/1");
        Ok(if unrestricted {
            "*".to_owned()
        } else {
            parts.join(",")
        })
    }

    fn part(&self, part: &str) -> Result<String, CronError> {
        let (values, step) = match part.split_once('/') {
            Some((values, step)) => (values, Some(step)),
            None => (part, None),
        };
        let values = self.values(part, values)?;
        let Some(step) = step else {
            return Ok(values);
        };
        // A step after a single value is no range to step through.
        let steps_through = values == "*" || values.contains('-');
        match number(step) {
            Some(1..) if steps_through => Ok(format!("{values}/{step}")),
            _ => Err(CronError::Step {
                field: self.name,
                part: part.to_owned(),
            }),
        }
    }

    /// `*`, a value or a range, in numbers.
    fn values(&self, part: &str, values: &str) -> Result<String, CronError> {
        if values == "*" {
            return Ok(values.to_owned());
        }
        let numbers: Option<Vec<u16>> = values.split('-').map(|value| self.value(value)).collect();
        match numbers.as_deref() {
            Some([value]) => Ok(value.to_string()),
            // croner takes `SAT-SUN` for 6-7; CronJob does not.
            Some([first, last]) if first > last => Err(CronError::Backwards {
                field: self.name,
                part: part.to_owned(),
            }),
            Some([first, last]) => Ok(format!("{first}-{last}")),
            _ => Err(CronError::Part {
                field: self.name,
                part: part.to_owned(),
                values: self.values,
                range: self.range,
            }),
        }
    }

    fn value(&self, text: &str) -> Option<u16> {
        let named = self
            .names
            .iter()
            .zip(self.least..)
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        match named {
            Some((_, value)) => Some(value),
            None => number(text).filter(|value| (self.least..=self.most).contains(value)),
        }
    }
}

/// One or two digits.
fn number(text: &str) -> Option<u16> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().count() > CRON_LENGTH_MAX {
            return Err(CronError::TooLong);
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let fields: [&str; 5] =
            fields
                .try_into()
                .map_err(|fields: Vec<&str>| CronError::FieldCount {
                    count: fields.len(),
                })?;
        let checked: Result<Vec<String>, _> = [MINUTE, HOUR, DAY, MONTH, WEEKDAY]
            .iter()
            .zip(fields)
            .map(|(field, text)| field.checked(text))
            .collect();
        let parsed = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(&checked?.join(" "))
            .map_err(|error| CronError::Unread {
                cause: error.to_string(),
            })?;
        if !possible(&parsed) {
            return Err(CronError::Never);
        }
        Ok(Self {
            text: text.to_owned(),
            parsed: Arc::new(parsed),
        })
    }
}

/// Whether some day matches. A weekday alone always does, sooner or later.
fn possible(parsed: &croner::Cron) -> bool {
    let pattern = &parsed.pattern;
    let first_day = pattern.days.values().first().copied().unwrap_or(1);
    let months = pattern.months.values();
    let mut longest = (1..).zip(MONTH_DAYS);
    !pattern.is_dow_wildcard()
        || longest.any(|(month, days)| months.contains(&month) && first_day <= days)
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Cron {
    /// The last start at or before `at`, on its day or one of the `days_back` days before.
    pub(super) fn last(&self, at: NaiveDateTime, days_back: u32) -> Option<NaiveDateTime> {
        // UTC, which croner searches in, has no gaps and overlaps: neither have times without a
        // zone.
        let found = self.parsed.find_previous_occurrence(&at.and_utc(), true);
        let found = found.ok()?.naive_utc();
        within(found.date(), at.date(), days_back).then_some(found)
    }

    /// The first start after the minute of `at`, on its day or one of the `days_ahead` days after.
    pub(super) fn first_after(&self, at: NaiveDateTime, days_ahead: u32) -> Option<NaiveDateTime> {
        let found = self.parsed.find_next_occurrence(&at.and_utc(), false);
        let found = found.ok()?.naive_utc();
        within(at.date(), found.date(), days_ahead).then_some(found)
    }
}

/// Whether `later` is at most `days` after `earlier`.
fn within(earlier: NaiveDate, later: NaiveDate, days: u32) -> bool {
    later.signed_duration_since(earlier).num_days() <= i64::from(days)
}
