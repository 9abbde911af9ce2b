//! Queries of many objects, made of those of one.

use std::time::Duration;

use pd_signals::{
    engine::{ENGINES, VLLM},
    queries::gateway::GatewayScope,
};

use super::*;

fn scope() -> Scope {
    Scope {
        engine: &VLLM,
        prefix: None,
        namespace_label: "namespace".into(),
        pod_label: "pod".into(),
        namespace: "inference".into(),
        prefill_pods: "llama-p-[a-z0-9]+-[a-z0-9]{5}".into(),
        decode_pods: "llama-d-[0-9]+".into(),
        selectors: vec![("team".into(), "chat".into())],
        window: Duration::from_mins(2),
        attainment_window: Duration::from_hours(1),
    }
}

fn names<'a>(namespaces: &'a [&'a str], homes: &'a [String], keys: &'a [&'a str]) -> Names<'a> {
    Names {
        namespaces,
        homes,
        keys,
        models: &[],
    }
}

fn queries(scope: &Scope) -> [String; 4] {
    [
        scope.state_query(),
        scope.histogram_query(),
        scope.wide_query(),
        scope.attainment_query(),
    ]
}

#[test]
fn every_query_of_every_engine_can_be_grouped() {
    for engine in ENGINES {
        for selectors in [vec![], vec![("model_name".into(), "m".into())]] {
            let scope = of_no_object(&Scope {
                engine,
                selectors,
                ..scope()
            });
            for query in queries(&scope) {
                let grouped = grouped(&query, &scope);
                assert!(grouped.is_ok(), "{}: {grouped:?}", engine.name);
            }
        }
    }
}

#[test]
fn each_part_of_the_own_query_is_in_one_part_of_the_grouped_one() {
    for engine in ENGINES {
        let scope = of_no_object(&Scope { engine, ..scope() });
        for query in queries(&scope) {
            let parts = grouped(&query, &scope).unwrap().parts;
            let tags = parts.iter().flat_map(|part| &part.tags);
            let mut tags: Vec<&str> = tags.map(|(tag, _)| tag.as_str()).collect();
            let own = query.matches("\"signal\"").count();
            tags.sort_unstable();
            tags.dedup();
            assert_eq!(tags.len(), own, "{tags:?}");
        }
    }
}

#[test]
fn every_selector_reads_the_namespaces_and_no_pods() {
    let scope = of_no_object(&scope());
    for query in queries(&scope) {
        let grouped = grouped(&query, &scope).unwrap();
        let text = grouped
            .text(&names(&["a", "b-2"], &[], &["llama/", "/v3.1"]))
            .unwrap();
        let plain = |text: &str| text.matches('{').count() - text.matches("]{5}").count();
        let selectors = plain(&text);
        let pods = r#"pod=~"(llama)-[a-z0-9]+-[a-z0-9]{5}|(v3\\.1)-[0-9]+""#;
        let pods = text.matches(pods).count();
        assert_eq!(pods, selectors, "{text}");
        assert_eq!(text.matches("namespace=~\"a|b-2\"").count(), selectors);
        assert_eq!(text.matches("team=\"chat\"").count(), selectors);
        let all = grouped.text(&names(&["a"], &[], &[])).unwrap();
        assert_eq!(all.matches("pod=~\".+\"").count(), selectors);
        assert!(!text.contains('<'), "{text}");
        // Whatever is written is read as it was meant.
        assert_eq!(parser::parse(&text).unwrap().to_string(), text);
    }
}

#[test]
fn whatever_is_read_of_both_roles_alike_is_read_once() {
    let scope = of_no_object(&scope());
    let own = scope.histogram_query();
    let parts = grouped(&own, &scope).unwrap().parts;
    let both = parts.iter().find(|part| {
        let tags = part.tags.iter();
        tags.map(|(tag, _)| tag.as_str())
            .eq(["prefillTtft_buckets", "decodeTtft_buckets"])
    });
    let roles = both.map(|part| part.tags.iter().map(|(_, role)| *role).collect::<Vec<_>>());
    assert_eq!(roles, Some(vec![Some(Role::Prefill), Some(Role::Decode)]));
}

#[rstest::rstest]
#[case::a_dot(&["a.b"])]
#[case::a_pattern(&["a", ".*"])]
#[case::a_quote(&["a\"} or up{x=\""])]
#[case::an_empty_one(&["a", ""])]
#[case::none(&[])]
fn a_name_that_is_no_namespaces_is_not_written_into_a_pattern(#[case] namespaces: &[&str]) {
    let scope = of_no_object(&scope());
    let grouped = grouped(&scope.wide_query(), &scope).unwrap();
    assert_eq!(grouped.text(&names(namespaces, &[], &[])), None);
    let homes: Vec<String> = namespaces.iter().map(|name| (*name).to_owned()).collect();
    if !homes.is_empty() {
        assert_eq!(grouped.text(&names(&["a"], &homes, &[])), None);
    }
}

#[test]
fn the_search_for_gateways_keeps_namespaces_apart() {
    let scope = of_no_object(&scope());
    let search = GatewayScope::of(&scope, None, String::new(), &[]).query();
    let grouped = grouped(&scope.wide_query(), &scope).unwrap();
    let before = grouped.parts.len();
    let grouped = grouped.with_search(&search, &scope).unwrap();
    assert_eq!(grouped.parts.len(), before + 1);
    assert_eq!(grouped.parts[before].tags, [("gateway".to_owned(), None)]);
    let text = grouped
        .text(&names(&["a"], &["home".to_owned()], &["llama/"]))
        .unwrap();
    let (_, search) = text.split_once("count by (__name__, namespace)").unwrap();
    assert!(search.contains("namespace=~\"home|a\"") && !search.contains("pod=~"));
}

#[rstest::rstest]
#[case("label_replace(sum(x{namespace=\"n\",pod=~\"p\"}), \"other\", \"t\", \"\", \"\")")]
#[case("sum(x{namespace=\"n\",pod=~\"p\"})")]
#[case("label_replace(sum(x{namespace=\"n\"}), \"signal\", \"t\", \"\", \"\")")]
#[case("label_replace(sum(x{namespace=\"n\",pod=~\"q\"}), \"signal\", \"t\", \"\", \"\")")]
#[case("label_replace(topk(1, x{namespace=\"n\",pod=~\"p\"}), \"signal\", \"t\", \"\", \"\")")]
#[case(
    "label_replace(vector(scalar(x{namespace=\"n\",pod=~\"p\"})), \"signal\", \"t\", \"\", \"\")"
)]
#[case(
    "label_replace(sum without (a) (x{namespace=\"n\",pod=~\"p\"}), \"signal\", \"t\", \"\", \"\")"
)]
#[case("label_replace(min(x{namespace=\"n\",pod=~\"p|d\"}), \"signal\", \"t\", \"\", \"\")")]
#[case(
    "label_replace(sum(x{namespace=\"n\",pod=~\"p\"} / y{namespace=\"n\",pod=~\"d\"}), \"signal\", \"t\", \"\", \"\")"
)]
#[case(
    "label_replace(sum(x{namespace=\"n\",pod=~\"p\"}) / y{namespace=\"n\",pod=~\"p\"}, \"signal\", \"t\", \"\", \"\")"
)]
#[case("label_replace(vector(1), \"signal\", \"t\", \"\", \"\")")]
#[case("sum(")]
fn whatever_is_made_otherwise_is_refused(#[case] query: &str) {
    assert!(grouped(query, &of_no_object(&scope())).is_err());
}

#[rstest::rstest]
#[case("edge", "pod")]
#[case("namespace", "model_name")]
#[case("pod", "pod")]
#[case("team", "pod")]
fn a_label_of_two_meanings_is_refused(#[case] namespace_label: &str, #[case] pod_label: &str) {
    let scope = of_no_object(&Scope {
        namespace_label: namespace_label.to_owned(),
        pod_label: pod_label.to_owned(),
        ..scope()
    });
    assert!(grouped(&scope.wide_query(), &scope).is_err());
}

/// Proxies often let through a mebibyte. A form takes up to twice the text, for it quotes marks.
const TEXT_BYTES_MAX: usize = 512 << 10;

#[test]
fn the_queries_of_the_largest_usual_chunk_are_no_longer_than_proxies_let_through() {
    // Ten thousand objects with a namespace each, in fifteen chunks.
    let namespaces: Vec<String> = (0..667).map(|n| format!("team-{n:05}")).collect();
    let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    for engine in ENGINES {
        let scope = of_no_object(&Scope { engine, ..scope() });
        for query in queries(&scope) {
            let grouped = grouped(&query, &scope).unwrap();
            let text = grouped.text(&names(&namespaces, &[], &[])).unwrap();
            assert!(
                text.len() < TEXT_BYTES_MAX,
                "{}: {}",
                engine.name,
                text.len()
            );
        }
    }
}
