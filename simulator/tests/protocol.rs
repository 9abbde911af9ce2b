//! The schema of the policy protocol is that of the code, says what the reader does, and the worked
//! example of the documentation plays.
//!
//! The schema is written with `PD_UPDATE=1 cargo test -p pd-sim --test protocol`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pd_sim::protocol::schema::{paths, schema};
use pd_sim::protocol::{Answer, ObservationLine};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The policy of the example that has every field of the API.
fn full_policy() -> Value {
    let path = root().join("examples/pdautoscaler-full.yaml");
    serde_json::to_value(pd_sim::policy::read_policy(&path).unwrap()).unwrap()
}

fn made() -> Value {
    schema(&full_policy())
}

/// The places where `value` breaks `schema`, as far as ours uses JSON Schema.
fn broken(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap();
        return broken(root, target, value, path);
    }
    let mut found = Vec::new();
    let fits = |one: &Value| broken(root, one, value, path).is_empty();
    let any = schema.get("anyOf").and_then(Value::as_array);
    if any.is_some_and(|any| !any.iter().any(fits)) {
        found.push(format!("{path} is none of those allowed: {value}"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        found.push(format!("{path} is {value}"));
    }
    let listed = schema.get("enum").and_then(Value::as_array);
    if listed.is_some_and(|all| !all.contains(value)) {
        found.push(format!("{path} is {value}"));
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => value.is_number(),
    };
    let fits = match schema.get("type") {
        Some(Value::String(name)) => is(name),
        Some(Value::Array(names)) => names.iter().any(|name| is(name.as_str().unwrap())),
        _ => true,
    };
    if !fits {
        found.push(format!("{path} is {value}"));
    }
    if let Some(fields) = value.as_object() {
        for required in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if !fields.contains_key(required.as_str().unwrap()) {
                found.push(format!("{path} lacks {required}"));
            }
        }
        for (name, field) in fields {
            match schema.get("properties").and_then(|all| all.get(name)) {
                Some(of) => found.extend(broken(root, of, field, &format!("{path}.{name}"))),
                None if schema.get("additionalProperties") == Some(&json!(false)) => {
                    found.push(format!("{path}.{name} is not known"));
                }
                None => {}
            }
        }
    }
    found
}

fn assert_fits(value: &Value) {
    let schema = made();
    let found = broken(&schema, &schema, value, "");
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_schema_on_record_is_that_of_the_code() {
    let path = root().join("docs/policy-protocol.schema.json");
    let text = serde_json::to_string_pretty(&made()).unwrap() + "\n";
    if std::env::var_os("PD_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        recorded == text,
        "{path:?} differs from the code: run with PD_UPDATE=1"
    );
}

#[test]
fn lines_of_the_simulator_fit_the_schema() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_pd-sim"))
        .args(["simulate", "--trace", "simulator/data/ramp.csv", "--record"])
        .arg(&path)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success());
    let recorded = std::fs::read_to_string(&path).unwrap();
    for line in [0, 40, 79] {
        assert_fits(&serde_json::from_str(recorded.lines().nth(line).unwrap()).unwrap());
    }
}

/// The fenced blocks of JSON in the documentation's worked example: an observation, an answer.
fn worked_example() -> (String, Value) {
    let page = std::fs::read_to_string(root().join("docs/policy-protocol.md")).unwrap();
    let (_, example) = page.split_once("## A worked example").unwrap();
    let mut blocks = example.split("```json\n").skip(1);
    let mut block = || {
        blocks
            .next()
            .unwrap()
            .split("```")
            .next()
            .unwrap()
            .to_owned()
    };
    let observation: Value = serde_json::from_str(&block()).unwrap();
    let answer = serde_json::from_str(&block()).unwrap();
    (observation.to_string(), answer)
}

/// Answers of `pd-sim policy` to a line.
fn answered(line: &str, options: &[&str]) -> (bool, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pd-sim"))
        .arg("policy")
        .args(options)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    let output = child.wait_with_output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn the_worked_example_plays() {
    let (line, want) = worked_example();
    assert_fits(&serde_json::from_str(&line).unwrap());
    let config = ["--config", "examples/pdautoscaler-minimal.yaml"];
    let (good, text) = answered(&line, &config);
    assert!(good, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    if std::env::var_os("PD_UPDATE").is_some() {
        eprintln!("the answer: {text}");
    }
    assert_eq!(answer, want);
    let (_, text) = answered(&line, &[&config[..], &["--explain"]].concat());
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert!(answer["report"]["steps"].is_array(), "{text}");
    assert_eq!(answer["replicas"], want["replicas"]);
    assert!(matches!(Answer::read(&text), Ok(Answer::Decided { .. })));
}

#[test]
fn what_the_schema_refuses_the_reader_refuses() {
    let (line, _) = worked_example();
    let right: Value = serde_json::from_str(&line).unwrap();
    let schema = made();
    for (place, name) in [
        ("", "extra"),
        ("/snapshot", "signal"),
        ("/snapshot/roles/decode", "redy"),
        ("/snapshot/signals", "prefilCompletionRateRps"),
        ("/snapshot/signals/recent", "ttft"),
    ] {
        let mut wrong = right.clone();
        wrong.pointer_mut(place).unwrap()[name] = json!(1);
        assert!(
            !broken(&schema, &schema, &wrong, "").is_empty(),
            "{place} {name}"
        );
        let (good, text) = answered(
            &wrong.to_string(),
            &["--config", "examples/pdautoscaler-minimal.yaml"],
        );
        assert!(!good && text.contains(name), "{text}");
    }
}

#[test]
fn the_page_lists_every_signal_and_gap() {
    let page = std::fs::read_to_string(root().join("docs/policy-protocol.md")).unwrap();
    for &signal in pd_core::signal::name::SignalName::ALL {
        let paths = paths(signal);
        let path = paths.first().unwrap().trim_start_matches("recent.");
        assert!(page.contains(&format!("`{path}`")), "{path}");
    }
    for gap in pd_core::Gap::ALL {
        let name = serde_json::to_value(gap).unwrap();
        assert!(
            page.contains(&format!("`{}`", name.as_str().unwrap())),
            "{name}"
        );
    }
}

#[test]
fn recordings_of_the_first_version_are_read() {
    let line = concat!(
        r#"{"version":1,"timeMilliseconds":0,"snapshot":{"policy":{"bounds":{"prefill":{"minReplicas":1,"maxReplicas":64},"#,
        r#""decode":{"minReplicas":1,"maxReplicas":64}},"objective":{"ttft":{"limit":{"secs":2,"nanos":0},"percentile":99},"#,
        r#""tpot":{"limit":{"secs":0,"nanos":25000000},"percentile":99},"attainment":{"percent":99,"window":{"secs":3600,"nanos":0}}}},"#,
        r#""roles":{"prefill":{"current":6,"ready":6,"starting":0,"terminating":0,"gpusPerReplica":2},"#,
        r#""decode":{"current":3,"ready":3,"starting":0,"terminating":0,"gpusPerReplica":2}},"signals":{},"#,
        r#""paused":{"scaleUp":false,"scaleDown":false}},"replicas":{"prefill":6,"decode":3}}"#
    );
    let read = ObservationLine::read(line).unwrap();
    assert_eq!(read.snapshot.policy.objective.ttft.limit.as_secs(), 2);
}
