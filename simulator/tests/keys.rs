//! The keys of `--output json` are those that `docs/simulator.md` lists, and no others.
//!
//! Every result is made once, small, and its keys are held against the tables of its section, so
//! that a key that comes, goes or is renamed must be written down.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser;
use pd_core::PerRole;
use pd_sim::backtest::{Decision, Past};
use pd_sim::calibrate::{Calibration, Errors, Fit};
use pd_sim::engine::Profile;
use pd_sim::replay::{Difference, Replay};
use pd_sim::{simulate, sweep};
use serde::Serialize;
use serde_json::Value;

#[derive(Debug, Parser)]
struct Simulate {
    #[command(flatten)]
    options: simulate::options::SimulateOptions,
}

#[derive(Debug, Parser)]
struct Sweep {
    #[command(flatten)]
    options: sweep::options::SweepOptions,
}

/// Keys in the tables of a section, and of the sections within it.
fn listed(section: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulator.md");
    let text = std::fs::read_to_string(path).unwrap();
    let heading = format!("### {section}\n");
    let (_, rest) = text.split_once(&heading).unwrap();
    let own = rest.split("\n### ").next().unwrap();
    let key = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    own.lines().filter_map(key).collect()
}

fn keys(of: impl Serialize) -> BTreeSet<String> {
    let value = serde_json::to_value(of).unwrap();
    value.as_object().unwrap().keys().cloned().collect()
}

fn hold(section: &str, found: &BTreeSet<String>) {
    let listed = listed(section);
    let missing: Vec<&String> = found.difference(&listed).collect();
    let gone: Vec<&String> = listed.difference(found).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/simulator.md, section {section}: not listed {missing:?}, listed but not there {gone:?}"
    );
}

const SHORT: [&str; 6] = [
    "--hours",
    "0.02",
    "--policy",
    "keda-default",
    "--output",
    "json",
];

#[test]
fn runs_have_the_keys_that_are_listed() {
    let options = Simulate::try_parse_from(["simulate"].iter().chain(&SHORT))
        .unwrap()
        .options;
    let result = simulate::run(&options).unwrap();
    let outcome: Value = serde_json::from_str(&result).unwrap();
    hold("simulate", &keys(&outcome));
    let words = ["sweep", "--vary", "seed=1", "--vary", "rate=1"];
    let options = Sweep::try_parse_from(words.iter().chain(&SHORT))
        .unwrap()
        .options;
    let result: Value = serde_json::from_str(&sweep::run(&options).unwrap()).unwrap();
    let mut found = keys(&result);
    let of_run = keys(&result["runs"][0]);
    found.extend(of_run.difference(&keys(&outcome)).cloned());
    hold("sweep", &found);
    let of_compare: BTreeSet<String> = found
        .iter()
        .filter(|key| *key == "trace")
        .cloned()
        .collect();
    hold("compare", &of_compare);
}

#[test]
fn looks_back_have_the_keys_that_are_listed() {
    let decision = Decision {
        time: String::new(),
        from: PerRole::default(),
        to: PerRole::default(),
        reason: String::new(),
        message: String::new(),
    };
    let mut found = keys(&decision);
    found.extend(keys(Past::default()));
    // The keys of the whole are those of its struct; it is made by a backtest alone.
    let whole = [
        "from",
        "to",
        "stepSeconds",
        "measured",
        "fit",
        "profile",
        "simulated",
        "decisions",
    ];
    found.extend(whole.map(str::to_owned));
    hold("backtest", &found);
    let calibration = Calibration {
        prefill_factor: 1.0,
        decode_factor: 1.0,
        before: Fit::default(),
        after: Fit::default(),
        profile: Profile::default(),
    };
    let mut found = keys(&calibration);
    found.extend(keys(Fit::default()));
    found.extend(keys(Errors::default()));
    hold("calibrate", &found);
    hold("Profile", &keys(Profile::default()));
}

#[test]
fn replays_have_the_keys_that_are_listed() {
    let difference = Difference {
        line: 1,
        time_milliseconds: 0,
        recorded: PerRole::default(),
        replayed: PerRole::default(),
        reason: None,
    };
    let mut found = keys(&difference);
    found.extend(keys(Replay {
        decisions: 0,
        recorded_decisions: 0,
        differences: Vec::new(),
    }));
    hold("replay", &found);
}
