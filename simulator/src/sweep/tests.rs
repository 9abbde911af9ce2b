//! Sweeps as a whole on the embedded ramp: their order, their bytes, and what is refused before a
//! run.

use rstest::rstest;

use super::*;
use crate::testing::on_the_ramp;

fn options(further: &[&str]) -> SweepOptions {
    on_the_ramp("4", further)
}

#[test]
fn a_grid_is_played_in_order_and_alike_whatever_runs_at_once() {
    let json = |jobs| {
        let grid = [
            "--vary",
            "lead=0s,120s",
            "--vary",
            "seed=1..2",
            "--output",
            "json",
            "--jobs",
            jobs,
        ];
        run(&options(&grid)).unwrap()
    };
    let one = json("1");
    assert_eq!(one, json("3"));
    let sweep: Value = serde_json::from_str(&one).unwrap();
    let runs = sweep["runs"].as_array().unwrap();
    let points: Vec<[&str; 2]> = runs
        .iter()
        .map(|row| ["first", "second"].map(|key| row[key].as_str().unwrap()))
        .collect();
    assert_eq!(
        points,
        [["0s", "1"], ["0s", "2"], ["120s", "1"], ["120s", "2"]]
    );
    assert_eq!(runs[3]["leadSeconds"], 120.0);
    assert_eq!(runs[3]["seed"], 2);
    assert!(!one.contains("wallSeconds"));
}

#[test]
fn text_csv_and_report_name_every_point() {
    let report = tempfile::NamedTempFile::new().unwrap();
    let path = report.path().to_str().unwrap().to_owned();
    let few = |form| {
        run(&options(&[
            "--vary",
            "ttft=300ms,500ms,2s",
            "--vary",
            "rate=0.5,1",
            "--policy",
            "keda-default",
            "--output",
            form,
            "--report",
            &path,
        ]))
        .unwrap()
    };
    let text = few("text");
    for point in ["300ms        0.5", "2s           1"] {
        assert!(text.contains(point), "{text}");
    }
    let csv = few("csv");
    assert!(csv.starts_with("trace,ttft,rate,policy,"), "{csv}");
    assert_eq!(csv.lines().count(), 7);
    let html = std::fs::read_to_string(report.path()).unwrap();
    assert_eq!(html.matches("<svg").count(), 6);
    for foreign in ["http:", "https:", "<script", "NaN"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

#[test]
fn half_the_rate_is_about_half_the_requests() {
    let sweep = sweep(&options(&[
        "--vary",
        "rate=0.5,1,1.5",
        "--policy",
        "keda-default",
    ]))
    .unwrap();
    let requests: Vec<f64> = sweep
        .runs
        .iter()
        .map(|row| row.outcome.requests as f64)
        .collect();
    assert!(
        (requests[0] / requests[1] - 0.5).abs() < 0.03,
        "{requests:?}"
    );
    assert!(
        (requests[2] / requests[1] - 1.5).abs() < 0.03,
        "{requests:?}"
    );
}

#[rstest]
#[case(&["lead=soon"], "`--vary lead=soon`: give a time with its unit, such as 120s or 5m, at most 24h")]
#[case(&["magic=1"], "`--vary magic=1`: there is no such parameter: give lead, seed, rate,")]
#[case(&["tolerance=10"], "`--vary tolerance=10`: spec.ratio.tolerancePercent `10` has no meaning with policy `Auto`")]
#[case(&["ttft=5"], "`--vary ttft=5`: give a time with its unit, such as 500ms or 15s")]
#[case(&["attainment=120"], "`--vary attainment=120`: spec.objective.attainment.percent `120` must be a whole number from 1 to 100")]
#[case(&["spec.prefill.replicas=3"], "`--vary spec.prefill.replicas=3`: scenario field `spec.prefill.replicas` does not exist")]
#[case(&["profile.prefixHitRatio=x"], "`--vary profile.prefixHitRatio=x`: invalid type: string \"x\", expected f64")]
#[case(&["seed=1", "seed=2"], "both `--vary` name the same parameter: give its values in one")]
#[case(&["seed=1", "lead=1s", "rate=1"], "give one or two `--vary`")]
fn what_cannot_be_varied_is_told_before_anything_is_played(
    #[case] varied: &[&str],
    #[case] message: &str,
) {
    let words: Vec<&str> = varied.iter().flat_map(|vary| ["--vary", vary]).collect();
    let told = run(&options(&words)).unwrap_err().to_string();
    assert!(told.starts_with(message), "{told}");
}

#[test]
fn any_field_of_the_scenario_can_be_varied() {
    let grid = [
        "--vary",
        "budget=none,16",
        "--vary",
        "profile.prefixHitRatio=0,0.5",
    ];
    let points = points(&options(&grid)).unwrap();
    let of = |point: &Point| {
        (
            point.scenario.policy().budget_gpus,
            point.scenario.profile.prefix_hit_ratio,
        )
    };
    let got: Vec<_> = points.iter().map(of).collect();
    assert_eq!(
        got,
        [(None, 0.0), (None, 0.5), (Some(16), 0.0), (Some(16), 0.5)]
    );
}
