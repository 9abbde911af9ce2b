//! Scenarios as files: the shipped ones, the defaults, and what is refused.

use std::time::Duration;

use rstest::rstest;

use super::*;

fn read(text: &str) -> Result<Scenario, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.yaml");
    std::fs::write(&path, text).unwrap();
    Scenario::read(&path).map_err(|error| error.to_string())
}

#[test]
fn shipped_scenarios_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(folder).unwrap();
    let mut names = Vec::new();
    for file in files {
        let path = file.unwrap().path();
        let scenario = Scenario::read(&path).unwrap();
        // All are about the same replicas of the same model, but those of another simulator's
        // world.
        let of_another = path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("dynosim-");
        let profile = Profile {
            max_batch: scenario.profile.max_batch,
            ..Profile::default()
        };
        assert_eq!(
            scenario.profile == profile,
            !of_another,
            "{}",
            path.display()
        );
        let told = scenario.profile_skew.is_some()
            || scenario.links.is_some()
            || scenario.prefix_cache.is_some()
            || scenario.routing != Routing::default()
            || !scenario.faults.is_empty();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // The subject of a scenario's name must be in it.
        assert_eq!(told, !name.ends_with("-tp4.yaml"), "{name}");
        names.push(name);
    }
    assert!(names.len() >= 7, "{names:?}");
}

#[test]
fn a_run_starts_within_its_bounds_unless_it_says_where() {
    let given = PerRole::from_fn(|_| 9);
    let at_start = |text: &str| read(text).unwrap().setup(1, given).replicas_at_start;
    let bounded = at_start(&spec("prefill", "maxReplicas: 4"));
    assert_eq!((bounded.prefill, bounded.decode), (4, 9));
    let raised = at_start(&spec("decode", "maxReplicas: 64, minReplicas: 20"));
    assert_eq!((raised.prefill, raised.decode), (9, 20));
    let stated = spec("prefill", "maxReplicas: 4") + "replicasAtStart: {prefill: 2}\n";
    let stated = at_start(&stated);
    assert_eq!((stated.prefill, stated.decode), (2, 9));
}

#[test]
fn what_is_left_out_has_its_default() {
    let scenario = read("description: nothing else\n").unwrap();
    let policy = scenario.policy();
    assert_eq!(policy.bounds.prefill.max_replicas, 64);
    assert_eq!(policy.objective.ttft.percentile, 99);
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
#[case::start(
    "replicasAtStart: {prefill: 0}",
    "scenario field `replicasAtStart.prefill` is `0`: give 1 to 10000"
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

/// A good spec whose `role` has one more entry beside its workload.
fn spec(role: &str, entry: &str) -> String {
    let of = |name: &str| {
        let more = if name == role {
            entry
        } else {
            "maxReplicas: 64"
        };
        format!(
            "  {name}: {{target: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}, {more}}}\n"
        )
    };
    let limits = "  objective: {ttft: {target: 500ms}, tpot: {target: 25ms}}\n";
    format!("spec:\n{}{}{limits}", of("prefill"), of("decode"))
}

/// The product checks a spec; here is that nothing of it is lost on the way.
#[rstest]
#[case::bounds(
    "maxReplicas: 4, minReplicas: 5",
    "",
    "spec.prefill.minReplicas `5` is above maxReplicas `4`"
)]
#[case::gpus(
    "maxReplicas: 4, gpusPerReplica: 0",
    "",
    "spec.prefill.gpusPerReplica `0` must be a whole number from 1 to 1024"
)]
#[case::ratio(
    "maxReplicas: 4",
    "ratio: {policy: Range, range: {lowest: '4:1', highest: '1:4'}}",
    "swap them"
)]
#[case::misspelt(
    "maxReplicas: 4, replicas: 3",
    "",
    "scenario field `spec.prefill.replicas` does not exist"
)]
#[case::misspelt_in_an_option(
    "maxReplicas: 4",
    "budget: {gpu: 3, gpus: 3}",
    "scenario field `spec.budget.gpu` does not exist"
)]
#[case::mode(
    "maxReplicas: 4",
    "mode: Recommend",
    "spec.mode `set` has no effect in a scenario"
)]
#[case::zero(
    "maxReplicas: 4",
    "scaleToZero: {wakeSignal: up}",
    "spec.scaleToZero `set` has no effect in a scenario"
)]
#[case::profile(
    "maxReplicas: 4",
    "capacity: {decode: {profileRef: {kind: ConfigMap, name: p}}}",
    "spec.capacity.decode.profileRef `set` has no effect in a scenario"
)]
fn a_spec_is_checked_as_on_a_cluster(
    #[case] prefill: &str,
    #[case] more: &str,
    #[case] message: &str,
) {
    let refused = read(&format!("{}  {more}\n", spec("prefill", prefill))).unwrap_err();
    assert!(refused.contains(message), "{refused}");
}

#[test]
fn the_default_spec_is_a_good_one() {
    let default = CheckedSpec::default();
    assert_eq!(default.with(|_| {}), Ok(default.clone()));
}

/// Every number of routers, prefix caches and links that no service can have.
#[rstest]
#[case(
    "routing: {cacheAware: {cacheThreshold: 1.1}}",
    "`routing.cacheAware.cacheThreshold` is `1.1`: give 0 to 1"
)]
#[case(
    "routing: {cacheAware: {balanceRelThreshold: 0.5}}",
    "`routing.cacheAware.balanceRelThreshold` is `0.5`: give 1 to 1000000"
)]
#[case(
    "routing: {eppScoring: {prefixWeight: -1}}",
    "`routing.eppScoring.prefixWeight` is `-1`: give 0 to 1000000"
)]
#[case(
    "routing: {eppScoring: {queueWeight: .inf}}",
    "`routing.eppScoring.queueWeight` is `inf`: give 0 to 1000000"
)]
#[case(
    "routing: {eppScoring: {kvCacheWeight: .nan}}",
    "`routing.eppScoring.kvCacheWeight` is `NaN`: give 0 to 1000000"
)]
#[case(
    "routing: {localPrefill: {belowTokens: 100, belowShare: 2}}",
    "`routing.localPrefill.belowShare` is `2`: give 0 to 1"
)]
#[case(
    "prefixCache: {capacityTokens: 1000000000001}",
    "`prefixCache.capacityTokens` is `1000000000001`: give 0 to 1000000000000 tokens"
)]
#[case(
    "prefixCache: {sessions: {returningShare: -0.1}}",
    "`prefixCache.sessions.returningShare` is `-0.1`: give 0 to 1"
)]
#[case(
    "prefixCache: {sessions: {open: 0}}",
    "`prefixCache.sessions.open` is `0`: give 1 or more"
)]
#[case(
    "prefixCache: {sessions: {systemPrompts: 10000001}}",
    "`prefixCache.sessions.systemPrompts` is `10000001`: give 1 or more; at most"
)]
#[case(
    "prefixCache: {sessions: {blockTokens: 65537}}",
    "`prefixCache.sessions.blockTokens` is `65537`: give 1 or more; at most 65536 tokens of a block"
)]
#[case(
    "links: {bandwidthGigabytesPerSecond: 0}",
    "`links.bandwidthGigabytesPerSecond` is `0`: give 0.001 to 100000 gigabytes per second"
)]
#[case(
    "links: {latencySeconds: 61}",
    "`links.latencySeconds` is `61`: give 0 to 60 seconds"
)]
#[case(
    "links: {betweenDomains: {bandwidthGigabytesPerSecond: 100001}}",
    "`links.betweenDomains.bandwidthGigabytesPerSecond` is `100001`: give 0.001 to 100000 gigabytes"
)]
#[case(
    "links: {betweenDomains: {latencySeconds: -1}}",
    "`links.betweenDomains.latencySeconds` is `-1`: give 0 to 60 seconds"
)]
#[case("links: {domains: 65}", "`links.domains` is `65`: give 1 to 64")]
#[case("routing: {prefill: fastest}", "fastest")]
#[case("routing: {cacheAware: {threshold: 1}}", "threshold")]
#[case("routing: {localPrefill: {}}", "belowTokens")]
#[case("prefixCache: {size: 1}", "size")]
#[case("links: {bandwidth: 1}", "bandwidth")]
fn bad_routing_is_refused_by_field(#[case] text: &str, #[case] message: &str) {
    let refused = read(text).unwrap_err();
    assert!(refused.contains(message), "{refused}");
}
