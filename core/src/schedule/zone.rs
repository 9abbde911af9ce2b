//! Between local times and points in time, through the IANA time zone database.
//!
//! The database is compiled in, so the same program gives the same answer on every machine. Where
//! clocks jump forward, a local time that does not exist stands for the first instant after the
//! gap; where they jump back, a local time that exists twice stands for its first pass. Local times
//! in order are therefore points in time in order, which the searches rely on.

use std::{fmt, str::FromStr};

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone as _};
use chrono_tz::{GapInfo, Tz};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A time zone of the IANA database, such as `Europe/Berlin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeZone(Tz);

/// A text that names no time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no time zone of the IANA database; write a name such as `Europe/Berlin`, with its capitals, or `Etc/UTC`"
)]
pub struct TimeZoneError;

impl TimeZone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(Tz::Etc__UTC);

    /// The local time at `at`, to the minute below; nothing some 262,000 years from now.
    pub(super) fn local(self, at: Timestamp) -> Option<NaiveDateTime> {
        let utc = DateTime::from_timestamp_millis(at.as_millis())?.naive_utc();
        let offset = self.0.offset_from_utc_datetime(&utc).fix();
        utc.checked_add_offset(offset)
    }

    /// A local time no start at or before `at` is later than: the local time itself, and in the
    /// second pass of an overlap the end of the first, whose starts are over.
    pub(super) fn local_ceiling(self, at: Timestamp) -> Option<NaiveDateTime> {
        let local = self.local(at)?;
        match self.0.from_local_datetime(&local) {
            MappedLocalTime::Ambiguous(first, second)
                if second.timestamp_millis() <= at.as_millis() =>
            {
                local.checked_add_signed(second.signed_duration_since(first))
            }
            _ => Some(local),
        }
    }

    /// The point in time of a local time.
    pub(super) fn instant(self, local: NaiveDateTime) -> Option<Timestamp> {
        let at = match self.0.from_local_datetime(&local) {
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => at,
            MappedLocalTime::None => GapInfo::new(&local, &self.0)?.end?,
        };
        Some(Timestamp::from_millis(at.timestamp_millis()))
    }
}

impl FromStr for TimeZone {
    type Err = TimeZoneError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| TimeZoneError)
    }
}

impl TryFrom<String> for TimeZone {
    type Error = TimeZoneError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TimeZone> for String {
    fn from(zone: TimeZone) -> Self {
        zone.0.name().to_owned()
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}
