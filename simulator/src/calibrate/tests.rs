//! A profile that is wrong is found out, from requests that were observed one by one.

use std::fmt::Write as _;

use super::*;
use crate::engine;
use crate::simulate::Run;
use crate::simulate::Source;
use crate::time::seconds;
use crate::trace::Trace;
use pd_core::PerRole;

/// The ramp as it would be served with a profile, as a file of observations.
fn observed(profile: &Profile, replicas: PerRole<u32>) -> tempfile::NamedTempFile {
    let ramp = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ramp.csv");
    let arrivals: Vec<_> = Trace::open(&ramp).unwrap().map(Result::unwrap).collect();
    let scenario = Scenario {
        profile: profile.clone(),
        ..Scenario::default()
    };
    let run = Run::over(scenario, Source::of_trace(ramp, 1.0, 1.0, 1), 1).unwrap();
    let mut ended: Vec<engine::RequestOutcome> = Vec::new();
    run.play_given(replicas.map(|count| vec![count]), 1, |outcome| {
        ended.push(*outcome);
    })
    .unwrap();
    ended.sort_by_key(|outcome| outcome.id);
    let mut text = "timestamp_s,input_tokens,output_tokens,ttft_s,tpot_s\n".to_owned();
    for (arrival, outcome) in arrivals.iter().zip(&ended) {
        let tpot = outcome
            .tpot_seconds()
            .map_or(String::new(), |tpot| tpot.to_string());
        let (at, ttft) = (seconds(arrival.at), outcome.ttft_seconds());
        let (prompt, answer) = (arrival.input_tokens, arrival.output_tokens);
        writeln!(text, "{at},{prompt},{answer},{ttft},{tpot}").unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_profile_that_is_wrong_by_a_third_is_recovered() {
    let truth = Factors {
        prefill: 1.3,
        decode: 1.3,
    };
    let replicas = PerRole {
        prefill: 1,
        decode: 1,
    };
    let file = observed(&truth.applied(&Profile::default()), replicas);
    let known = Known::read(file.path(), replicas, 7).unwrap();
    let mut scenario = Scenario::default();
    let calibration = fit(&mut scenario, &known).unwrap();
    assert!(
        (calibration.prefill_factor / 1.3 - 1.0).abs() < 0.03,
        "{calibration:?}"
    );
    assert!(
        (calibration.decode_factor / 1.3 - 1.0).abs() < 0.03,
        "{calibration:?}"
    );
    let (before, after) = (calibration.before, calibration.after);
    assert!(before.tpot.mape_percent.unwrap() > 10.0, "{before:?}");
    assert!(after.tpot.mape_percent.unwrap() < 2.0, "{after:?}");
    assert!(after.ttft.mape_percent.unwrap() < 5.0, "{after:?}");
    assert!(
        after.ttft.p99_error_percent.unwrap().abs() < 5.0,
        "{after:?}"
    );
    assert_eq!(scenario.profile, calibration.profile);
}

#[test]
fn a_profile_that_is_right_stays() {
    let replicas = PerRole {
        prefill: 1,
        decode: 1,
    };
    let file = observed(&Profile::default(), replicas);
    let known = Known::read(file.path(), replicas, 7).unwrap();
    let calibration = fit(&mut Scenario::default(), &known).unwrap();
    assert!(
        (calibration.prefill_factor - 1.0).abs() < 0.01,
        "{calibration:?}"
    );
    assert!(
        (calibration.decode_factor - 1.0).abs() < 0.01,
        "{calibration:?}"
    );
}

#[tokio::test]
async fn what_is_not_observed_is_told_by_name_and_line() {
    let told = async |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let known = Known::read(
            file.path(),
            PerRole {
                prefill: 1,
                decode: 1,
            },
            7,
        );
        let fitted = known.and_then(|known| fit(&mut Scenario::default(), &known));
        let message = fitted.unwrap_err().to_string();
        message.replace(&file.path().display().to_string(), "t")
    };
    let header = "timestamp_s,input_tokens,output_tokens,ttft_s,tpot_s\n";
    assert_eq!(
        told(&format!("{header}1,2,3,0.5,\n")).await,
        "nothing was observed of TPOT: without it the profile cannot be corrected"
    );
    assert_eq!(
        told(&format!("{header}1,2,3,-1,0.1\n")).await,
        "trace `t` line 2 has `ttft_s` `-1`: write seconds above 0"
    );
    assert_eq!(
        told("timestamp_s,input_tokens,output_tokens\n1,2,3\n").await,
        "trace `t` line 1 has no column `ttft_s`: name the columns `timestamp_s,ttft_s,tpot_s`"
    );
}
