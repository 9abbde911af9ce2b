//! Scenarios as files: the shipped ones, the defaults, and what is refused.

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
        // All are about the same replicas of the same model.
        let profile = Profile {
            max_batch: scenario.profile.max_batch,
            ..Profile::default()
        };
        assert_eq!(scenario.profile, profile, "{}", path.display());
        let told = scenario.profile_skew.is_some()
            || scenario.links.is_some()
            || scenario.prefix_cache.is_some()
            || scenario.routing != Routing::default()
            || !scenario.faults.is_empty();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // What a scenario is named after must be in it.
        assert_eq!(told, !name.ends_with("-tp4.yaml"), "{name}");
        names.push(name);
    }
    assert!(names.len() >= 7, "{names:?}");
}

#[test]
fn a_run_starts_within_its_bounds_unless_it_says_where() {
    let given = PerRole::from_fn(|_| 9);
    let at_start = |text| read(text).unwrap().setup(1, given).replicas_at_start;
    let bounded = at_start("replicas: {prefill: {max: 4}, decode: {min: 20}}");
    assert_eq!((bounded.prefill, bounded.decode), (4, 20));
    let told = at_start("replicas: {prefill: {max: 4, start: 2}, decode: {}}");
    assert_eq!((told.prefill, told.decode), (2, 9));
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
