//! The program as users run it: policies that are processes, ours among them, and recordings.
//!
//! Python is used where it is there; without it that test says so and ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs `pd-sim simulate` on the shipped ramp with further arguments.
fn simulate(further: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pd-sim"))
        .args([
            "simulate",
            "--trace",
            "simulator/data/ramp.csv",
            "--output",
            "json",
        ])
        .args(further)
        .current_dir(root())
        .output()
        .unwrap()
}

fn result(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let mut value: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["policy", "wallSeconds", "simulatedRequestsPerSecond"] {
        value.as_object_mut().unwrap().remove(key).unwrap();
    }
    value
}

#[test]
fn our_policy_as_a_process_decides_as_it_does_inside() {
    let command = format!("'{}' policy", env!("CARGO_BIN_EXE_pd-sim"));
    let outside = simulate(&["--policy-command", &command]);
    assert_eq!(result(&outside), result(&simulate(&[])));
}

#[test]
fn the_python_example_is_a_policy() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3 is not here");
        return;
    }
    let source = std::fs::read_to_string(root().join("examples/policy.py")).unwrap();
    let code = source.lines().filter(|line| !line.trim().is_empty());
    assert!(code.count() <= 22, "the example is no longer short");
    let output = simulate(&[
        "--copies",
        "4",
        "--policy-command",
        "python3 examples/policy.py",
    ]);
    let result = result(&output);
    assert!(result["scaleEvents"].as_u64().unwrap() > 0, "{result}");
    assert!(
        result["attainmentPercent"].as_f64().unwrap() > 80.0,
        "{result}"
    );
}

#[test]
fn a_recording_replays_without_a_difference_and_a_changed_one_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording.jsonl");
    let text = path.to_str().unwrap();
    result(&simulate(&["--record", text]));
    let replay = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pd-sim"))
            .arg("replay")
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.success(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (_, same, _) = replay(&[text]);
    assert_eq!(same, "80 decisions, 0 of 80 recorded ones differ\n");

    let recorded = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = recorded.lines().map(str::to_owned).collect();
    let mut last: Value = serde_json::from_str(&lines[79]).unwrap();
    last["replicas"]["prefill"] = 60.into();
    lines[79] = last.to_string();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let (_, changed, _) = replay(&[text]);
    assert!(changed.starts_with("line 80, 1200 s: 60P "), "{changed}");

    std::fs::write(&path, "{}\n").unwrap();
    let (good, _, error) = replay(&[text]);
    assert!(
        !good && error.contains("line 1: `{}` is not an observation"),
        "{error}"
    );
    std::fs::write(&path, "").unwrap();
    let (good, _, error) = replay(&[text]);
    assert!(!good && error.contains("is empty"), "{error}");
}

#[test]
fn a_failing_policy_ends_the_run_with_its_words_and_no_result() {
    let output = simulate(&["--policy-command", "exit 3"]);
    assert!(!output.status.success() && output.stdout.is_empty());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.starts_with("error: policy command `exit 3` ended before it answered"),
        "{error}"
    );
}
