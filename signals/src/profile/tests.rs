//! The key that is read, the form its text is taken for, and the message when it is wrong.
//!
//! The importers have their own tests; here it is about a `ConfigMap` as a whole. Messages are
//! compared word by word where they name a place, because finding it is what they are for.

use rstest::rstest;

use super::*;

const PREFILL: &str =
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,1000,0,50\n4,1,2000,0,100\n4,1,4000,0,210\n";
const DECODE: &str =
    "tp,batch,context_tokens,itl_ms\n4,1,1000,10\n4,64,1000,20\n4,1,4000,12\n4,64,4000,30\n";
const KV_TABLE: &str = "tp,kv_capacity_tokens_per_instance\n4,500000\n8,900000\n";
const BOTH: &str = "
prefill: { baseMilliseconds: 8.0, millisecondsPerKilotoken: 41.9 }
decode: { baseMilliseconds: 8.64, millisecondsPerRequest: 0.047 }
kvCapacityTokens: 2760000
batchMax: 256
";

fn part(role: Role, data: &[(&str, &str)], key: Option<&str>) -> Result<Profile, ProfileError> {
    let data = data
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect();
    Wanted {
        role,
        name: "llama",
        data: &data,
        key,
        gpus_per_replica: 4,
    }
    .part()
}

#[test]
fn each_role_reads_its_own_table_of_one_config_map() {
    let data = [
        ("prefill.csv", PREFILL),
        ("decode.csv", DECODE),
        ("kv.csv", KV_TABLE),
    ];
    let prefill = part(Role::Prefill, &data, None).unwrap();
    assert!((prefill.prefill.unwrap().seconds(2_000.0, 0.0) - 0.1).abs() < 1e-12);
    assert!(prefill.decode.is_none() && prefill.kv_capacity_tokens.is_none());
    let decode = part(Role::Decode, &data, None).unwrap();
    assert!((decode.decode.unwrap().itl_seconds(64.0, 4_000.0) - 0.030).abs() < 1e-12);
    assert_eq!(decode.kv_capacity_tokens, Some(500_000.0));
    assert!(decode.prefill.is_none());
}

/// The part of a `ConfigMap`'s manifest that counts.
#[derive(serde::Deserialize)]
struct Manifest {
    data: BTreeMap<String, String>,
}

#[test]
fn the_example_is_a_profile_of_both_roles() {
    let text = include_str!("../../../examples/profile-configmap.yaml");
    let example: Manifest = serde_saphyr::from_str(text).unwrap();
    let data = example.data;
    for role in Role::ALL {
        let wanted = Wanted {
            role,
            name: "llama-70b-h200",
            data: &data,
            key: None,
            gpus_per_replica: 8,
        };
        let part = wanted.part().unwrap();
        assert_eq!(part.kv_capacity_tokens.is_some(), role == Role::Decode);
    }
}

#[test]
fn yaml_is_split_among_the_roles_and_may_have_one_alone() {
    let data = [("anything", BOTH)];
    let decode = part(Role::Decode, &data, None).unwrap();
    assert_eq!(
        (decode.batch_max, decode.kv_capacity_tokens),
        (Some(256), Some(2_760_000.0))
    );
    let prefill = part(Role::Prefill, &data, Some("anything")).unwrap();
    assert!(prefill.prefill.is_some() && prefill.batch_max.is_none());
    let alone = [(
        "profile.yaml",
        "prefill: { baseMilliseconds: 8, millisecondsPerKilotoken: 41.9 }",
    )];
    assert!(part(Role::Prefill, &alone, None).is_ok());
    let error = part(Role::Decode, &alone, None).unwrap_err().to_string();
    assert!(error.contains("has no decode times"), "{error}");
}

#[test]
fn the_parallelism_is_the_stated_one_or_the_gpus_of_a_replica() {
    let eight = PREFILL.replace("4,1,", "8,1,");
    let stated = [("prefill.csv", eight.as_str()), ("tp", "8\n")];
    assert!(part(Role::Prefill, &stated, None).is_ok());
    let error = part(Role::Prefill, &[("prefill.csv", &eight)], None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "key `prefill.csv` of ConfigMap `llama`: prefill table has no rows with tensor parallelism `4`: \
         it has 8; state that of one replica in key `tp`"
    );
}

#[rstest]
#[case::no_keys(&[], None, "ConfigMap `llama` has no keys: name one in profileRef.key, or call it `prefill.csv` or `profile.yaml`")]
#[case::two_keys(&[("a", BOTH), ("b", BOTH)], None, "ConfigMap `llama` has `a`, `b`: name one in profileRef.key, or call it `prefill.csv` or `profile.yaml`")]
#[case::another_key(&[("a", BOTH)], Some("b"), "ConfigMap `llama` has no key `b`: it has `a`")]
#[case::parallelism(&[("prefill.csv", PREFILL), ("tp", "four")], None, "key `tp` of ConfigMap `llama` is `four`: give the tensor parallelism of one replica, 1 to 1024")]
#[case::of_the_other_role(&[("a.csv", DECODE)], None, "key `a.csv` of ConfigMap `llama` has no prefill times: give a table with column `prefill_ms`, a sweep with column `prefill_ttft`, or YAML with `prefill`")]
#[case::operating_points(&[("best.csv", "(p)workers,(d)workers\n1,2\n")], None, "key `best.csv` of ConfigMap `llama` has no prefill times: it has configurations of AIConfigurator, which belong into spec.ratio.operatingPoints")]
fn a_text_that_cannot_be_used_is_refused_with_a_remedy(
    #[case] data: &[(&str, &str)],
    #[case] key: Option<&str>,
    #[case] want: &str,
) {
    let error = part(Role::Prefill, data, key).unwrap_err();
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_broken_line_is_reported_with_its_number() {
    let broken = PREFILL.replace("4,1,2000,0,100", "4,1,2000,0,soon");
    let error = part(Role::Prefill, &[("prefill.csv", &broken)], None).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with(
            "key `prefill.csv` of ConfigMap `llama`: line 3, column `prefill_ms`: `soon` is not"
        ),
        "{message}"
    );
}
