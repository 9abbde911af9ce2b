//! Scenarios as files: the shipped ones, the defaults, and what is refused.

use rstest::rstest;

use super::*;

fn read(text: &str) -> Result<Scenario, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.yaml");
    std::fs::write(&path, text).unwrap();
    Scenario::read(&path).map_err(|error| error.to_string())
}

#[rstest]
#[case("llama-70b-h200-tp4.yaml", Profile::default())]
#[case("reasoning-70b-h200-tp4.yaml", Profile { max_batch: 512, ..Profile::default() })]
#[case("faults.yaml", Profile::default())]
#[case("wrong-profile.yaml", Profile::default())]
fn shipped_scenarios_are_valid(#[case] name: &str, #[case] profile: Profile) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios")
        .join(name);
    assert_eq!(Scenario::read(&path).unwrap().profile, profile);
}

#[test]
fn what_is_left_out_has_its_default() {
    let scenario =
        read("description: nothing else\nreplicas: {prefill: {max: 9}, decode: {}}\n").unwrap();
    let policy = scenario.policy();
    assert_eq!(policy.bounds.prefill.max_replicas, 9);
    assert_eq!(policy.bounds.decode.max_replicas, 64);
    assert_eq!(policy.objective.ttft.limit, Duration::from_millis(500));
    assert_eq!(
        policy.behavior.scale_down.stabilization_window,
        Duration::from_mins(5)
    );
    let setup = scenario.setup(
        1,
        PerRole {
            prefill: 3,
            decode: 2,
        },
    );
    assert_eq!(
        setup.replicas_at_start,
        PerRole {
            prefill: 3,
            decode: 2
        }
    );
}

#[rstest]
#[case::unknown_field("objectives: {}", "objectives")]
#[case::unknown_profile_field("profile: {prefillSpeed: 3}", "prefillSpeed")]
#[case::profile(
    "profile: {decodeBaseMilliseconds: 0}",
    "scenario profile field `decodeBaseMilliseconds` is `0`: give a finite number of 0.001 or more"
)]
#[case::interval(
    "intervalSeconds: 20",
    "scenario field `intervalSeconds` is `20`: give a multiple of `scrapeIntervalSeconds`"
)]
#[case::window(
    "rateWindowSeconds: .nan",
    "scenario field `rateWindowSeconds` is `NaN`: give 1 to 604800 seconds"
)]
#[case::percentile(
    "objective: {ttft: {limitMilliseconds: 5, percentile: 100}}",
    "scenario field `objective.ttft.percentile` is `100`: give 50 to 99"
)]
#[case::bounds(
    "replicas: {prefill: {min: 5, max: 4}, decode: {}}",
    "scenario field `replicas.prefill.max` is `4`: give `min` or more, and 10000 at most"
)]
#[case::gpus(
    "gpusPerReplica: {prefill: 0, decode: 4}",
    "scenario field `gpusPerReplica.prefill` is `0`: give 1 to 1000"
)]
#[case::ratio(
    "ratio: {lowest: '4:1', highest: '1:4'}",
    "scenario field `ratio.highest` is `1:4`: give a ratio that is not below `lowest`"
)]
#[case::period(
    "behavior: {scaleUp: {policies: [{type: Percent, value: 100, periodSeconds: 0}]}}",
    "scenario field `behavior.scaleUp.policies.periodSeconds` is `0`: give 1 to 1800 seconds"
)]
#[case::parts(
    "lifecycle: {start: {prefill: {weightLoad: {seconds: 90}}, decode: null}}",
    "scenario field `lifecycle.start.prefill` is `90`: make the parts add up"
)]
#[case::fault_field(
    "faults: [{kind: crash, atSeconds: 1, factor: 2}]",
    "scenario field `faults[0].factor` is `Crash`: remove it"
)]
#[case::fault_without(
    "faults: [{kind: slowdown, atSeconds: 1}]",
    "scenario field `faults[0].factor` is `nothing`: give it"
)]
#[case::fault_kind("faults: [{kind: earthquake, atSeconds: 1}]", "earthquake")]
#[case::skew(
    "profileSkew: {prefill: 0}",
    "scenario field `profileSkew.prefill` is `0`: give 0.1 to 10"
)]
fn bad_scenarios_are_refused_by_field(#[case] text: &str, #[case] message: &str) {
    let refused = read(text).unwrap_err();
    assert!(refused.contains(message), "{refused}");
}
