//! The protocol as a JSON Schema, made from the rows and values of the code.
//!
//! Signals come from the core's table, gaps from its enum, and the owner's policy from the example
//! that has every field of the API. `docs/policy-protocol.schema.json` is this one, and a test
//! holds both together.

use pd_core::histogram::Histogram;
use pd_core::signal::name::{Kind, SignalName, SlotMut};
use pd_core::signal::{Gap, HistogramReading, Reading, Signals};
use serde_json::{Map, Value, json};

use super::{VERSION, filled, forms};

/// Where signals stand in `snapshot.signals`: a path for a number, two for a distribution.
pub fn paths(signal: SignalName) -> Vec<String> {
    let mut signals = Signals::default();
    let histogram = || {
        let one = Histogram::from_cumulative(vec![(1.0, 1.0)], 1.0, 1.0);
        one.map_or_else(HistogramReading::default, HistogramReading::Value)
    };
    match signals.slot_mut(signal) {
        SlotMut::Number(reading) => *reading = Reading::KnownZero,
        SlotMut::Distribution(recent, wide) => (*recent, *wide) = (histogram(), histogram()),
        SlotMut::Attainment(reading) => *reading = histogram(),
    }
    let (nothing, known) = (as_json(&Signals::default()), as_json(&signals));
    let mut found = Vec::new();
    differences("", &nothing, &known, &mut found);
    found
}

fn as_json(signals: &Signals) -> Value {
    serde_json::to_value(signals).unwrap_or_default()
}

fn differences(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            for ((name, one), other) in one.iter().zip(other.values()) {
                let dot = if path.is_empty() { "" } else { "." };
                differences(&format!("{path}{dot}{name}"), one, other, found);
            }
        }
        (one, other) if one != other => found.push(path.to_owned()),
        _ => {}
    }
}

/// The schema of observations, and of answers under `$defs`.
pub fn schema(policy: &Value) -> Value {
    let roles = |of: &Value| strict(json!({"prefill": of, "decode": of}), &["prefill", "decode"]);
    let count = json!({"type": "integer", "minimum": 0});
    let role = strict(
        json!({
            "current": described(&count, "replicas requested"),
            "ready": described(&count, "replicas that serve"),
            "starting": described(&count, "replicas that exist and do not serve yet; default 0"),
            "terminating": described(&count, "replicas on their way out; default 0"),
            "gpusPerReplica": described(&count, "GPUs of one replica; default that of --config, or 0"),
            "stuck": {"type": ["array", "null"], "description": "replicas that will not serve without help, and why"},
            "rollingOut": {"type": "boolean", "description": "pods are being replaced; default false"},
        }),
        &["current", "ready"],
    );
    let snapshot = strict(
        json!({
            "policy": described(&json!({"$ref": "#/$defs/policy"}), "what the owner wants; --config wins"),
            "roles": roles(&role),
            "signals": {"$ref": "#/$defs/signals"},
            "paused": strict(json!({"scaleUp": {"type": "boolean"}, "scaleDown": {"type": "boolean"}}), &[]),
            "profile": {"type": ["object", "null"], "description": "performance of one replica; without, it is learnt"},
        }),
        &["roles"],
    );
    let replicas = roles(&count);
    let mut schema = strict(
        json!({
            "version": {"enum": (1..=VERSION).collect::<Vec<u32>>()},
            "timeMilliseconds": {"type": "integer", "description": "since any origin; never falls"},
            "snapshot": snapshot,
            "replicas": described(&replicas, "in recordings: what was decided"),
        }),
        &["version", "timeMilliseconds", "snapshot"],
    );
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "A line of the policy protocol: an observation".into();
    schema["$defs"] = json!({
        "answer": {"anyOf": [
            strict(json!({
                "replicas": replicas,
                "reason": {"type": "string"},
                "report": {"type": "object", "description": "with --explain: all that led to it"},
            }), &["replicas"]),
            strict(json!({"error": {"type": "string"}}), &["error"]),
        ]},
        "duration": {"description": "text such as 500ms, or the form of older recordings", "anyOf": [
            {"type": "string"},
            strict(json!({"secs": count, "nanos": count}), &["secs", "nanos"]),
        ]},
        "reading": reading(&json!({"type": "number", "minimum": 0})),
        "distribution": reading(&strict(
            json!({
                "buckets": {"type": "array", "description":
                    "[upper edge, observations up to it], both rising; the last may have the edge \"+Inf\""},
                "count": {"type": "number", "minimum": 0},
                "sum": {"type": "number", "minimum": 0},
            }),
            &["buckets", "count", "sum"],
        )),
        "signals": signals(&roles(&strict(
            json!({"scraped": count, "seen": count, "oldestAge": {"anyOf": [{"$ref": "#/$defs/duration"}, {"type": "null"}]}}),
            &[],
        ))),
        "policy": inferred(
            &forms::written(policy.clone()),
            &forms::written(filled::defaults().unwrap_or_default()),
        ),
    });
    schema
}

fn reading(value: &Value) -> Value {
    let gaps: Vec<Value> = Gap::ALL
        .iter()
        .map(|gap| serde_json::to_value(gap).unwrap_or_default())
        .collect();
    json!({"anyOf": [
        strict(json!({"value": value}), &["value"]),
        {"const": "knownZero", "description": "nothing happened, and that is known"},
        strict(json!({"unknown": {"enum": gaps}}), &["unknown"]),
    ]})
}

fn signals(coverage: &Value) -> Value {
    let mut root = json!({
        "coverage": described(coverage, "workers that were measured; default all that are ready"),
        "rateWindow": {"$ref": "#/$defs/duration"},
        "answerPartial": {"type": "boolean", "description": "a server said that it does not know all; default false"},
    });
    for &signal in SignalName::ALL {
        let of = match signal.kind() {
            Kind::Distribution | Kind::Attainment => "distribution",
            _ => "reading",
        };
        for path in paths(signal) {
            let mut place = &mut root;
            let mut names = path.split('.').peekable();
            while let Some(name) = names.next() {
                if names.peek().is_none() {
                    place[name] = json!({"$ref": format!("#/$defs/{of}")});
                } else {
                    if place.get(name).is_none() {
                        place[name] = strict(json!({}), &[]);
                    }
                    place = &mut place[name]["properties"];
                }
            }
        }
    }
    strict(root, &[])
}

/// The fields of an example that has all of them, none required and no others allowed. Where the
/// default is of another kind, such as nothing at all, that is allowed beside it.
fn inferred(example: &Value, default: &Value) -> Value {
    let of_example = match example {
        Value::Object(fields) => {
            let of = |(name, field): (&String, &Value)| {
                let default = default.get(name).unwrap_or(field);
                (name.clone(), inferred(field, default))
            };
            let fields: Map<String, Value> = fields.iter().map(of).collect();
            strict(Value::Object(fields), &[])
        }
        Value::Number(_) => json!({"type": ["number", "null"]}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::String(text) if humantime::parse_duration(text).is_ok() => {
            json!({"$ref": "#/$defs/duration"})
        }
        _ => return json!({}),
    };
    if std::mem::discriminant(example) == std::mem::discriminant(default) {
        return of_example;
    }
    json!({"anyOf": [of_example, {"const": default}]})
}

fn strict(properties: Value, required: &[&str]) -> Value {
    let mut schema = json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
    });
    schema["properties"] = properties;
    schema
}

fn described(schema: &Value, text: &str) -> Value {
    let mut schema = schema.clone();
    schema["description"] = text.into();
    schema
}
