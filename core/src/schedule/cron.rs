//! The starts of a schedule as cron writes them: minute, hour, day of month, month, day of week.
//!
//! The grammar is that of Kubernetes `CronJob`: lists, ranges, steps, English names of months and
//! weekdays, and 7 for Sunday as well. When both days are restricted, either one is enough. Seconds,
//! macros such as `@daily`, and `L`, `W`, `#` and `?` are refused, and so is a day that no year has.
//!
//! A pattern is five bit sets, and a search for a start looks at whole days: its cost is bounded by
//! the days it may look at, whatever the pattern. Times here are local and know no zone.

use std::{fmt, str::FromStr};

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use serde::{Deserialize, Serialize};

/// Most characters of a pattern.
pub const CRON_LENGTH_MAX: usize = 128;

/// When a schedule starts, in local time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
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
        /// What it holds.
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
        /// What it holds.
        part: String,
    },
    /// A step is no number, or follows a single value.
    #[error(
        "has the step `{part}` for the {field}; write `*` or a range, `/`, and a number from 1 to 99"
    )]
    Step {
        /// The field in words.
        field: &'static str,
        /// What it holds.
        part: String,
    },
    /// Day of month and month never meet.
    #[error(
        "never starts: none of its months has such a day; change the day of month or the month"
    )]
    Never,
}

/// What one field may hold.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
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
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Field {
    /// The values of a whole field as bits.
    fn parse(&self, text: &str) -> Result<u64, CronError> {
        text.split(',')
            .try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, CronError> {
        let (values, step) = match part.split_once('/') {
            Some((values, step)) => (values, Some(step)),
            None => (part, None),
        };
        let (first, last) = self.range(part, values)?;
        let step = match step {
            None => 1,
            Some(step) if values == "*" || values.contains('-') => number(step)
                .filter(|step| (1..=99).contains(step))
                .ok_or_else(|| self.bad_step(part))?,
            Some(_) => return Err(self.bad_step(part)),
        };
        let mut bits = 0;
        let mut value = first;
        while value <= last {
            bits |= 1 << value;
            value += step;
        }
        Ok(bits)
    }

    fn range(&self, part: &str, values: &str) -> Result<(u32, u32), CronError> {
        if values == "*" {
            return Ok((self.least, self.most));
        }
        let value = |text: &str| {
            self.value(text).ok_or_else(|| CronError::Part {
                field: self.name,
                part: part.to_owned(),
                values: self.values,
                range: self.range,
            })
        };
        let (first, last) = match values.split_once('-') {
            Some((first, last)) => (value(first)?, value(last)?),
            None => (value(values)?, value(values)?),
        };
        if first > last {
            return Err(CronError::Backwards {
                field: self.name,
                part: part.to_owned(),
            });
        }
        Ok((first, last))
    }

    fn value(&self, text: &str) -> Option<u32> {
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

    fn bad_step(&self, part: &str) -> CronError {
        CronError::Step {
            field: self.name,
            part: part.to_owned(),
        }
    }
}

/// One or two digits.
fn number(text: &str) -> Option<u32> {
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
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            let count = fields.len();
            return Err(CronError::FieldCount { count });
        };
        // As in CronJob, a step of 1 is no restriction and any other is one.
        let any = |field: &str| matches!(field, "*" | "*/1");
        let weekdays = WEEKDAY.parse(weekday)?;
        let cron = Self {
            text: text.to_owned(),
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            // Sunday is 0 and 7.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            any_day: any(day),
            any_weekday: any(weekday),
        };
        if cron.possible() {
            Ok(cron)
        } else {
            Err(CronError::Never)
        }
    }
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
    /// Whether some day matches. A weekday alone always does, sooner or later.
    fn possible(&self) -> bool {
        !self.any_weekday
            || (1..).zip(MONTH_DAYS).any(|(month, days)| {
                self.months & (1 << month) != 0 && self.days & ((1 << (days + 1)) - 1) != 0
            })
    }

    fn starts_on(&self, date: NaiveDate) -> bool {
        let day = self.days & (1 << date.day()) != 0;
        let weekday = self.weekdays & (1 << date.weekday().num_days_from_sunday()) != 0;
        let either = !self.any_day && !self.any_weekday;
        self.months & (1 << date.month()) != 0
            && if either {
                day || weekday
            } else {
                day && weekday
            }
    }

    /// The last start at or before `at`, on its day or one of the `days_back` days before.
    pub(super) fn last(&self, at: NaiveDateTime, days_back: u32) -> Option<NaiveDateTime> {
        let mut limit = (at.hour(), at.minute());
        let mut date = at.date();
        for _ in 0..=days_back {
            if self.starts_on(date)
                && let Some(time) = self.last_time(limit)
            {
                return Some(date.and_time(time));
            }
            date = date.pred_opt()?;
            limit = (23, 59);
        }
        None
    }

    /// The first start after the minute of `at`, on its day or one of the `days_ahead` days after.
    pub(super) fn first_after(&self, at: NaiveDateTime, days_ahead: u32) -> Option<NaiveDateTime> {
        let mut limit = Some((at.hour(), at.minute()));
        let mut date = at.date();
        for _ in 0..=days_ahead {
            if self.starts_on(date)
                && let Some(time) = self.first_time(limit)
            {
                return Some(date.and_time(time));
            }
            date = date.succ_opt()?;
            limit = None;
        }
        None
    }

    fn last_time(&self, (hour, minute): (u32, u32)) -> Option<NaiveTime> {
        let in_hour = highest(self.minutes & up_to(minute));
        if let (true, Some(minute)) = (self.hours & (1 << hour) != 0, in_hour) {
            return NaiveTime::from_hms_opt(hour, minute, 0);
        }
        let hour = highest(self.hours & (up_to(hour) >> 1))?;
        NaiveTime::from_hms_opt(hour, highest(self.minutes)?, 0)
    }

    fn first_time(&self, after: Option<(u32, u32)>) -> Option<NaiveTime> {
        let Some((hour, minute)) = after else {
            return NaiveTime::from_hms_opt(lowest(self.hours)?, lowest(self.minutes)?, 0);
        };
        let in_hour = lowest(self.minutes & !up_to(minute));
        if let (true, Some(minute)) = (self.hours & (1 << hour) != 0, in_hour) {
            return NaiveTime::from_hms_opt(hour, minute, 0);
        }
        let hour = lowest(self.hours & !up_to(hour))?;
        NaiveTime::from_hms_opt(hour, lowest(self.minutes)?, 0)
    }
}

/// Bits 0 to `bit`; `bit` is below 63.
const fn up_to(bit: u32) -> u64 {
    (1 << (bit + 1)) - 1
}

fn highest(bits: u64) -> Option<u32> {
    bits.checked_ilog2()
}

fn lowest(bits: u64) -> Option<u32> {
    (bits != 0).then(|| bits.trailing_zeros())
}
