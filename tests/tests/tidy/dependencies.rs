//! Holds the crates to the directions in which they may depend on each other.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::{Findings, Tree, cargo, line_of, run, text};

/// Which workspace crates each crate may depend on, for its code and its tests alike.
const MAY_DEPEND_ON: [(&str, &[&str]); 15] = [
    ("pd-core", &[]),
    ("pd-tolerations", &[]),
    ("pd-placement", &["pd-tolerations"]),
    (
        "pd-api",
        &[
            "pd-core",
            "pd-systems",
            "pd-tolerations",
            "pd-api-without-kube",
        ],
    ),
    ("pd-api-without-kube", &[]),
    ("pd-release", &[]),
    ("pd-runtime", &[]),
    ("pd-signals", &["pd-core"]),
    ("pd-systems", &["pd-core"]),
    (
        "pd-autoscaler",
        &[
            "pd-core",
            "pd-api",
            "pd-signals",
            "pd-systems",
            "pd-runtime",
        ],
    ),
    (
        "kubectl-pd",
        &[
            "pd-core",
            "pd-api",
            "pd-signals",
            "pd-systems",
            "pd-runtime",
        ],
    ),
    (
        "pd-scheduler-plugin",
        &[
            "pd-core",
            "pd-api",
            "pd-placement",
            "pd-systems",
            "pd-tolerations",
            "pd-runtime",
        ],
    ),
    ("pd-sim", &["pd-core", "pd-api", "pd-signals"]),
    (
        "pd-webhook",
        &[
            "pd-core",
            "pd-tolerations",
            "pd-api",
            "pd-systems",
            "pd-runtime",
        ],
    ),
    (
        "pd-tests",
        &[
            "pd-core",
            "pd-tolerations",
            "pd-api",
            "pd-runtime",
            "pd-autoscaler",
            "pd-scheduler-plugin",
            "pd-signals",
            "pd-sim",
            "pd-systems",
            "pd-webhook",
        ],
    ),
];

/// Crates that a pure crate may use: nothing that reads a clock, a file, the network or the
/// environment. `csv` and `serde-saphyr` parse texts that the caller read, such as performance
/// tables. pd-core reads its own memory from JSON of other versions.
const PURE_MAY_USE: [(&str, &[&str]); 5] = [
    (
        "pd-core",
        &[
            "chrono",
            "chrono-tz",
            "croner",
            "serde",
            "serde_json",
            "statrs",
            "strum",
            "thiserror",
        ],
    ),
    (
        "pd-signals",
        &["csv", "pd-core", "serde", "serde-saphyr", "thiserror"],
    ),
    (
        "pd-tolerations",
        &["jiff", "serde", "serde_json", "thiserror"],
    ),
    ("pd-placement", &["pd-tolerations", "serde", "thiserror"]),
    (
        "pd-systems",
        &["json-patch", "pd-core", "serde_json", "strum", "thiserror"],
    ),
];

pub(super) fn dependencies(tree: &Tree, findings: &mut Findings) {
    let arguments = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let answer = run(cargo().args(arguments), &tree.root);
    assert!(
        answer.status.success(),
        "cargo metadata failed: {}",
        text(&answer.stderr)
    );
    let metadata: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let members: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let path = manifest.strip_prefix(&tree.root).unwrap().to_str().unwrap();
        let manifest = fs::read_to_string(manifest).unwrap();
        if !manifest.contains("[lints]\nworkspace = true\n") {
            findings.add(
                path,
                1,
                "the workspace's lints do not hold here: add `[lints]` with `workspace = true`",
            );
        }
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(member, _)| *member == name) else {
            findings.add(path, 1, "no rule says what this crate may depend on: add one to MAY_DEPEND_ON in tests/tests/tidy/dependencies.rs");
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            let line = line_of(&manifest, &format!("{other}."));
            if members.contains(other) && !allowed.contains(&other) {
                let message = format!(
                    "{name} must not depend on {other}: move what is shared to a crate below both"
                );
                findings.add(path, line, &message);
            }
            let outside_tests = dependency["kind"].is_null();
            let pure = PURE_MAY_USE.iter().find(|(member, _)| *member == name);
            if outside_tests && pure.is_some_and(|(_, allowed)| !allowed.contains(&other)) {
                let message = format!(
                    "{name} must not use {other}: take what it gives as an argument, or add it to PURE_MAY_USE with the reason"
                );
                findings.add(path, line, &message);
            }
        }
    }
}
