//! Comparisons as a whole on the embedded ramp: their order, their bytes, and what is refused.

use super::*;
use crate::testing::{on_the_ramp, parsed};

fn options(further: &[&str]) -> CompareOptions {
    on_the_ramp("4", further)
}

const FEW: &str =
    "static-hindsight,clairvoyant,keda-default,wva-saturation-default,dynamo-both-default";

#[test]
fn the_same_bytes_whatever_runs_at_once() {
    let json = |jobs| {
        let few = [
            "--policies",
            FEW,
            "--leads",
            "0s,120s",
            "--output",
            "json",
            "--jobs",
            jobs,
        ];
        run(&options(&few)).unwrap()
    };
    let one = json("1");
    assert_eq!(one, json("4"));
    assert!(!one.contains("wallSeconds"));
}

/// Results that no change of a decision can move; of the core, only the queueing formulas are in
/// them, by the clairvoyant plan. A change of the engine model, of the ledger or of a peer's rule
/// can, and then these are to be looked at and written again.
#[test]
fn peers_on_the_ramp_come_to_what_they_came_to() {
    let few = ["--policies", FEW, "--leads", "120s", "--output", "csv"];
    let csv = run(&options(&few)).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let place = |name: &str| {
        table::columns()
            .iter()
            .position(|column| *column == name)
            .unwrap()
    };
    let [policy, attained, hours] = ["policy", "attainmentPercent", "gpuHours"].map(place);
    let got: Vec<String> = reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let number = |place: usize| record[place].parse::<f64>().unwrap();
            format!(
                "{} {:.2} {:.2}",
                &record[policy],
                number(attained),
                number(hours)
            )
        })
        .collect();
    assert_eq!(got, GOLDEN);
}

#[test]
fn the_tuned_product_is_the_cheapest_of_its_settings_that_attain() {
    let both = [
        "--policies",
        "pdautoscaler,pdautoscaler-tuned",
        "--leads",
        "0s",
        "--output",
        "json",
    ];
    let rows: serde_json::Value = serde_json::from_str(&run(&options(&both)).unwrap()).unwrap();
    let row = |name: &str| {
        let mut rows = rows.as_array().unwrap().iter();
        rows.find(|row| row["policy"] == name).unwrap().clone()
    };
    let (own, tuned) = (row("pdautoscaler"), row("pdautoscaler-tuned"));
    let number = |row: &serde_json::Value, key: &str| row[key].as_f64().unwrap();
    let goal = number(&own, "attainmentGoalPercent");
    assert!(own["tunedAttainmentPercent"].is_null());
    let given = number(&tuned, "tunedAttainmentPercent");
    assert!((goal - 12.0..=goal).contains(&given), "{tuned}");
    if number(&own, "attainmentPercent") >= goal {
        assert!(number(&tuned, "attainmentPercent") >= goal, "{tuned}");
        assert!(
            number(&tuned, "gpuHours") <= number(&own, "gpuHours"),
            "{tuned}"
        );
    }
}

const GOLDEN: [&str; 5] = [
    "static-hindsight 99.00 10.67",
    "clairvoyant 98.85 3.95",
    "keda-default 88.13 3.52",
    "wva-saturation-default 99.10 5.28",
    "dynamo-both-default 83.56 2.94",
];

#[test]
fn the_columns_of_the_csv_are_the_keys_of_the_json() {
    let json = run(&options(&[
        "--policies",
        "keda-default",
        "--leads",
        "0s",
        "--output",
        "json",
    ]));
    let json = json.unwrap();
    let keys = json
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once('"'));
    let keys: Vec<&str> = keys.map(|(key, _)| key).collect();
    assert_eq!(keys, table::columns());
}

#[test]
fn a_table_and_a_report_name_every_policy_once_per_lead() {
    let report = tempfile::NamedTempFile::new().unwrap();
    let path = report.path().to_str().unwrap().to_owned();
    let few = ["--policies", FEW, "--leads", "0s,120s", "--report", &path];
    let text = run(&options(&few)).unwrap();
    assert_eq!(text.matches("wva-saturation-default").count(), 2, "{text}");
    assert!(
        text.starts_with(
            "ramp, lead 0 s: 9312 requests in 0.33 h, 99 % wanted within 500 ms and 25 ms"
        ),
        "{text}"
    );
    let html = std::fs::read_to_string(report.path()).unwrap();
    assert_eq!(html.matches("<td>").count(), 2 * 5 * 7);
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    for foreign in ["http:", "https:", "<script", "NaN"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

#[test]
fn what_cannot_be_compared_is_told_with_its_place() {
    let mut missing = options(&["--policies", "keda-default", "--leads", "0s"]);
    missing.traces = vec!["no-such-trace.csv".into()];
    let message = run(&missing).unwrap_err().to_string();
    assert!(
        message.starts_with("no-such-trace, lead 0 s: "),
        "{message}"
    );
    let scenarios = options(&["--scenario", "a.yaml,b.yaml"]);
    let message = run(&scenarios).unwrap_err().to_string();
    assert_eq!(
        message,
        "2 scenarios for 1 traces: give one for all, or one for each"
    );
    let failing = [
        "--policies",
        "keda-default",
        "--leads",
        "60s",
        "--policy-command",
        "exit 7",
    ];
    let message = run(&options(&failing)).unwrap_err().to_string();
    assert!(
        message.starts_with("ramp, lead 60 s, command: policy command `exit 7`"),
        "{message}"
    );
    for (option, value) in [
        ("--policies", "magic"),
        ("--leads", "60"),
        ("--output", "xml"),
    ] {
        let refused = parsed::<CompareOptions>(&[option, value]).unwrap_err();
        assert!(refused.to_string().contains(option), "{refused}");
    }
}
