//! Values of flags that several binaries read in the same way.

use std::time::Duration;

/// A duration of at least 100 ms.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span >= Duration::from_millis(100) => Ok(span),
        Ok(_) => Err("must be at least 100ms".to_owned()),
        Err(error) => Err(format!("{error}; write it as 15s or 1m30s")),
    }
}
