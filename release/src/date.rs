//! The date of the source: the only time that a release contains.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Seconds since 1970 that are a date of four digits of the year.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDate {
    seconds: u64,
    text: String,
}

/// Seconds that are no date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` seconds since 1970 are no date: give the time of the last commit")]
pub struct DateError(pub u64);

impl SourceDate {
    /// The date so many seconds after 1970 began.
    pub fn new(seconds: u64) -> Result<Self, DateError> {
        let date = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        let text = date.and_then(|date| date.format(&Rfc3339).ok());
        let text = text.ok_or(DateError(seconds))?;
        Ok(Self { seconds, text })
    }

    /// Seconds since 1970.
    pub const fn seconds(&self) -> u64 {
        self.seconds
    }

    /// As RFC 3339 writes it, in UTC.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_in_utc() {
        assert_eq!(SourceDate::new(0).unwrap().text(), "1970-01-01T00:00:00Z");
        assert_eq!(
            SourceDate::new(1_796_040_000).unwrap().text(),
            "2026-11-30T12:00:00Z"
        );
        assert_eq!(SourceDate::new(u64::MAX), Err(DateError(u64::MAX)));
    }
}
