//! The forms that people write, as the ones that the core reads, and back.
//!
//! A duration is text such as `500ms`, as in a `PDAutoscaler`; the core's own form, seconds and
//! nanoseconds, is read as well, for older recordings have it. A histogram may end in a bucket
//! without an upper edge, as exporters write it; the count says the same, so it goes. A number
//! alone is a reading.

use serde_json::{Map, Value, json};

/// Fields whose value is a span of time.
const DURATIONS: &[&str] = &[
    "limit",
    "window",
    "stabilizationWindow",
    "period",
    "assumed",
    "stuckAfter",
    "oldestAge",
    "rateWindow",
    "idleAfter",
    "duration",
    "lead",
];

/// The upper edge of a bucket that has none, as exporters spell it.
const NO_EDGE: [&str; 4] = ["+inf", "inf", "infinity", "+infinity"];

/// The core's form of `value`, or what is wrong with it and where.
pub(super) fn read(value: &mut Value) -> Result<(), String> {
    read_at("", value)
}

fn read_at(path: &str, value: &mut Value) -> Result<(), String> {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let path = format!("{path}{}{name}", if path.is_empty() { "" } else { "." });
                match field {
                    Value::String(text) if DURATIONS.contains(&name.as_str()) => {
                        *field = duration(&path, text)?;
                    }
                    Value::Array(buckets) if name == "buckets" => histogram(&path, buckets)?,
                    _ => read_at(&path, field)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(place, item)| read_at(&format!("{path}[{place}]"), item)),
        _ => Ok(()),
    }
}

fn duration(path: &str, text: &str) -> Result<Value, String> {
    let span = humantime::parse_duration(text).map_err(|error| {
        format!("`{path}` is `{text}`: write a duration such as 500ms ({error})")
    })?;
    Ok(json!({"secs": span.as_secs(), "nanos": span.subsec_nanos()}))
}

/// Buckets with rising edges and counts that do not fall, without the one that has no edge.
fn histogram(path: &str, buckets: &mut Vec<Value>) -> Result<(), String> {
    let mut last: Option<(f64, f64)> = None;
    let mut kept = Vec::with_capacity(buckets.len());
    for (place, bucket) in buckets.iter().enumerate() {
        let wrong = |remedy: &str| Err(format!("`{path}[{place}]` is `{bucket}`: {remedy}"));
        let Some([edge, count]) = bucket.as_array().map(Vec::as_slice) else {
            return wrong("write [upper edge, observations up to it]");
        };
        let Some(count) = count.as_f64() else {
            return wrong("write the observations up to the edge as a number");
        };
        let edge = match edge {
            Value::Null => f64::INFINITY,
            Value::String(text) if NO_EDGE.contains(&text.to_ascii_lowercase().as_str()) => {
                f64::INFINITY
            }
            Value::String(text) => text.parse().unwrap_or(f64::NAN),
            number => number.as_f64().unwrap_or(f64::NAN),
        };
        if edge.is_nan() {
            return wrong("write the upper edge as a number, or \"+Inf\"");
        }
        if last.is_some_and(|(before, below)| edge <= before || count < below) {
            return wrong("edges rise from bucket to bucket, and counts up to them do not fall");
        }
        last = Some((edge, count));
        if edge.is_finite() {
            kept.push(json!([edge, count]));
        }
    }
    *buckets = kept;
    Ok(())
}

/// The written form of `value`: durations as text.
pub(super) fn written(value: Value) -> Value {
    match value {
        Value::Object(fields) => match span(&fields) {
            Some(text) => Value::String(text),
            None => Value::Object(
                fields
                    .into_iter()
                    .map(|(name, field)| (name, written(field)))
                    .collect(),
            ),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(written).collect()),
        other => other,
    }
}

/// The text of a span of time, if `fields` are one.
fn span(fields: &Map<String, Value>) -> Option<String> {
    let (seconds, nanos) = fields
        .get("secs")?
        .as_u64()
        .zip(fields.get("nanos")?.as_u64())?;
    let nanos = u32::try_from(nanos).ok()?;
    let span = std::time::Duration::new(seconds, nanos);
    (fields.len() == 2).then(|| {
        humantime::format_duration(span)
            .to_string()
            .replace(' ', "")
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::text(json!({"window": "2m"}), json!({"window": {"secs": 120, "nanos": 0}}))]
    #[case::a_fraction(json!({"limit": "500ms"}), json!({"limit": {"secs": 0, "nanos": 500_000_000}}))]
    #[case::the_cores_own(json!({"limit": {"secs": 1, "nanos": 0}}), json!({"limit": {"secs": 1, "nanos": 0}}))]
    #[case::nothing(json!({"oldestAge": null}), json!({"oldestAge": null}))]
    #[case::a_bucket_without_an_edge(
        json!({"buckets": [[0.5, 1], [1, 2], ["+Inf", 3]], "count": 3}),
        json!({"buckets": [[0.5, 1.0], [1.0, 2.0]], "count": 3})
    )]
    #[case::as_json_writes_it(json!({"buckets": [[0.5, 1], [null, 3]]}), json!({"buckets": [[0.5, 1.0]]}))]
    #[case::as_javascript_does(json!({"buckets": [["0.5", 1], ["Infinity", 3]]}), json!({"buckets": [[0.5, 1.0]]}))]
    fn what_people_write_is_read(#[case] mut written: Value, #[case] want: Value) {
        read(&mut written).unwrap();
        assert_eq!(written, want);
    }

    #[rstest]
    #[case::no_unit(json!({"a": {"limit": "500"}}), "`a.limit` is `500`: write a duration")]
    #[case::no_pair(json!({"buckets": [[1]]}), "`buckets[0]` is `[1]`: write [upper edge")]
    #[case::no_edge(json!({"buckets": [["wide", 1]]}), "write the upper edge as a number")]
    #[case::not_rising(json!({"buckets": [[2, 1], [1, 2]]}), "`buckets[1]` is `[1,2]`: edges rise")]
    #[case::not_cumulative(json!({"buckets": [[1, 3], [2, 2]]}), "counts up to them do not fall")]
    #[case::fewer_than_before_in_all(json!({"buckets": [[1, 3], ["+Inf", 2]]}), "do not fall")]
    fn what_cannot_be_meant_is_refused_with_its_place(
        #[case] mut written: Value,
        #[case] want: &str,
    ) {
        let message = read(&mut written).unwrap_err();
        assert!(message.contains(want), "{message}");
    }

    #[test]
    fn spans_are_written_as_text_and_read_back() {
        let value = json!({"window": {"secs": 5_400, "nanos": 0}, "rest": [{"limit": {"secs": 0, "nanos": 25_000_000}}]});
        let text = written(value.clone());
        assert_eq!(
            text,
            json!({"window": "1h30m", "rest": [{"limit": "25ms"}]})
        );
        let mut back = text;
        read(&mut back).unwrap();
        assert_eq!(back, value);
    }
}
