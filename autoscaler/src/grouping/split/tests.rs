//! Rows of an answer about many, and whose they are.

use super::*;

fn part(tags: &[(&str, Option<Role>)], join: Join) -> Part {
    let tags = tags.iter();
    Part {
        tags: tags.map(|(tag, role)| ((*tag).to_owned(), *role)).collect(),
        join,
        of: Of::Pods,
    }
}

fn parts() -> Arc<[Part]> {
    let [prefill, decode] = [Some(Role::Prefill), Some(Role::Decode)];
    Arc::new([
        part(
            &[("waiting_p", prefill), ("waiting_d", decode)],
            Join::Apart,
        ),
        part(&[("rate_p", prefill)], Join::Add),
        part(&[("models", None)], Join::Add),
        part(&[("samples", None)], Join::Largest),
        part(&[("age", None)], Join::Apart),
        part(&[("ttft_native", decode)], Join::Add),
    ])
}

/// `a/llama` and `a/other` in one namespace, and a namesake of the first in another.
fn directory() -> Directory {
    let mut directory = Directory::default();
    for (namespace, prefill, decode) in [
        ("a", "llama-p/", "/llama-d"),
        ("a", "other-p/", "/other-d"),
        ("b", "llama-p/", "/llama-d"),
    ] {
        directory.add(namespace, PerRole { prefill, decode });
    }
    directory
}

/// Samples as texts, in order.
fn texts(split: &Split) -> Vec<String> {
    let text = |sample: &Sample| {
        let labels = sample.labels.iter().map(|(k, v)| format!("{k}={v}"));
        let labels: Vec<String> = labels.collect();
        format!("{} {}", labels.join(","), sample.value)
    };
    let mut texts: Vec<String> = split.samples().iter().map(text).collect();
    texts.sort_unstable();
    texts
}

fn split(rows: &[(&[(&str, &str)], f64)]) -> Vec<Vec<String>> {
    let directory = directory();
    let mut splitter = Splitter::new(&directory, parts(), ("ns", "pod"));
    for (labels, value) in rows {
        splitter.add(labels, *value).unwrap();
    }
    splitter.finish().iter().map(texts).collect()
}

#[test]
fn a_row_by_pod_is_of_the_object_whose_pod_it_is_and_of_no_namesake() {
    let row = |namespace, pod| [(PART, "0"), ("ns", namespace), ("pod", pod)];
    let answers = split(&[
        (&row("a", "llama-p-7d9f-abcde"), 1.0),
        (&row("a", "llama-d-0"), 2.0),
        (&row("a", "other-d-0"), 3.0),
        (&row("b", "llama-d-0"), 4.0),
        (&row("a", "llama-d-x"), 5.0),
        (&row("c", "llama-d-0"), 6.0),
        (&row("a", ""), 7.0),
        (&[(PART, "0"), ("ns", "a")], 8.0),
    ]);
    let decode = |pod: &str, value: u8| vec![format!("pod={pod},signal=waiting_d {value}")];
    let both = vec![
        "pod=llama-d-0,signal=waiting_d 2".to_owned(),
        "pod=llama-p-7d9f-abcde,signal=waiting_p 1".to_owned(),
    ];
    assert_eq!(
        answers,
        [both, decode("other-d-0", 3), decode("llama-d-0", 4)]
    );
}

#[test]
fn a_row_by_workload_is_of_the_role_that_its_part_reads() {
    let row = |workload| {
        [
            (PART, "1"),
            ("ns", "a"),
            (WORKLOAD, workload),
            ("edge", "0.5"),
        ]
    };
    let answers = split(&[
        (&row("llama-p/"), 1.0),
        (&row("/llama-d"), 2.0),
        (&row("/llama-p"), 3.0),
        (&row("/"), 4.0),
    ]);
    assert_eq!(answers[0], ["edge=0.5,signal=rate_p 1"]);
    assert!(answers[1].is_empty() && answers[2].is_empty());
}

#[test]
fn rows_of_both_roles_are_joined_as_the_own_query_would() {
    let row = |part, workload, model| {
        [
            (PART, part),
            ("ns", "b"),
            (WORKLOAD, workload),
            ("metric", model),
        ]
    };
    let answers = split(&[
        (&row("2", "llama-p/", "m"), 2.0),
        (&row("2", "/llama-d", "m"), 3.0),
        (&row("2", "/llama-d", "n"), 1.0),
        (&row("3", "llama-p/", ""), 39.0),
        (&row("3", "/llama-d", ""), 40.0),
    ]);
    let want = [
        "metric=,signal=samples 40",
        "metric=m,signal=models 5",
        "metric=n,signal=models 1",
    ];
    assert_eq!(answers[2], want);
}

#[test]
fn what_is_found_in_a_namespace_is_its_objects_and_in_a_home_everybodys() {
    let mut directory = Directory::with_homes(&["home".to_owned()]);
    for namespace in ["a", "b"] {
        directory.add(
            namespace,
            PerRole {
                prefill: "p/",
                decode: "d/",
            },
        );
    }
    let search = Part {
        of: Of::Namespaces,
        ..part(&[("gateway", None)], Join::Add)
    };
    let mut splitter = Splitter::new(&directory, Arc::new([search]), ("ns", "pod"));
    for (namespace, value) in [("a", 1.0), ("home", 2.0), ("c", 4.0)] {
        let labels = [(PART, "0"), ("ns", namespace), ("metric", "m")];
        splitter.add(&labels, value).unwrap();
    }
    let answers: Vec<_> = splitter.finish().iter().map(texts).collect();
    let want = |value: u8| vec![format!("metric=m,signal=gateway {value}")];
    assert_eq!(answers, [want(3), want(2)]);
}

#[test]
fn a_gateways_rows_are_of_whoever_serves_their_model_there_and_in_a_home_anywhere() {
    let mut directory = Directory::with_homes(&["home".to_owned()]);
    for (namespace, model) in [
        ("a", "llama"),
        ("a", "qwen"),
        ("b", "llama"),
        ("home", "qwen"),
    ] {
        directory.add_served(namespace, model);
    }
    let counted = Part {
        of: Of::Models("model_name"),
        ..part(&[("gateway_ttft_buckets", None)], Join::Add)
    };
    let mut splitter = Splitter::new(&directory, Arc::new([counted]), ("ns", "pod"));
    let rows = [
        ("a", "Llama", 1.0),
        ("a", "llama", 2.0),
        ("a", "mistral", 4.0),
        ("b", "qwen", 8.0),
        ("home", "LLAMA", 16.0),
        ("home", "qwen", 32.0),
        ("c", "llama", 64.0),
    ];
    for (namespace, model, value) in rows {
        let labels = [
            (PART, "0"),
            ("edge", "0.5"),
            ("model_name", model),
            ("ns", namespace),
        ];
        splitter.add(&labels, value).unwrap();
    }
    let answers: Vec<_> = splitter.finish().iter().map(texts).collect();
    let want = |value: u8| vec![format!("edge=0.5,signal=gateway_ttft_buckets {value}")];
    assert_eq!(answers, [want(19), want(32), want(16), want(32)]);
    let mut splitter = Splitter::new(&directory, Arc::new([counted_without()]), ("ns", "pod"));
    let unnamed = [(PART, "0"), ("ns", "a")];
    assert_eq!(splitter.add(&unnamed, 1.0), Err(NotTaken::Strange));
}

fn counted_without() -> Part {
    Part {
        of: Of::Models("model"),
        ..part(&[("gateway_ttft_count", None)], Join::Add)
    }
}

#[test]
fn a_native_histogram_comes_in_its_pieces() {
    let directory = directory();
    let mut splitter = Splitter::new(&directory, parts(), ("ns", "pod"));
    let labels = [(PART, "5"), ("ns", "b"), (WORKLOAD, "/llama-d")];
    splitter
        .add_native(&labels, (3.0, 1.5), &[(0.5, 2.0), (1.0, 1.0)])
        .unwrap();
    let answers = splitter.finish();
    let own: BTreeMap<String, String> = BTreeMap::from([("signal".into(), "ttft_native".into())]);
    let want = Sample::of_native(&own, 3.0, 1.5, &[(0.5, 2.0), (1.0, 1.0)]);
    assert_eq!(answers[2].samples(), want);
}

#[test]
fn a_workload_of_two_objects_is_both_of_theirs() {
    let mut directory = directory();
    let decode = "/llama-e";
    directory.add(
        "a",
        PerRole {
            prefill: "llama-p/",
            decode,
        },
    );
    let mut splitter = Splitter::new(&directory, parts(), ("ns", "pod"));
    splitter
        .add(&[(PART, "1"), ("ns", "a"), (WORKLOAD, "llama-p/")], 1.0)
        .unwrap();
    let answers = splitter.finish();
    assert_eq!(texts(&answers[0]), texts(&answers[3]));
    assert_eq!(texts(&answers[0]).len(), 1);
}

#[rstest::rstest]
#[case::no_part(&[("ns", "a"), ("pod", "llama-d-0")])]
#[case::another_part(&[(PART, "6"), ("ns", "a"), ("pod", "llama-d-0")])]
#[case::no_number(&[(PART, "x"), ("ns", "a"), ("pod", "llama-d-0")])]
#[case::no_namespace(&[(PART, "0"), ("pod", "llama-d-0")])]
fn a_row_that_was_not_asked_for_makes_the_answer_unusable(#[case] labels: &[(&str, &str)]) {
    let directory = directory();
    let mut splitter = Splitter::new(&directory, parts(), ("ns", "pod"));
    assert_eq!(splitter.add(labels, 1.0), Err(NotTaken::Strange));
}

/// Whether two objects have no answer where the first has so many rows, each with labels of its own
/// if `are_new`.
fn overfull(rows: usize, are_new: bool) -> [bool; 2] {
    let directory = directory();
    let mut splitter = Splitter::new(&directory, parts(), ("ns", "pod"));
    let mut take = |workload: &str, number: usize| {
        let edge = number.to_string();
        let labels = [
            (PART, "1"),
            ("ns", "a"),
            (WORKLOAD, workload),
            ("edge", &edge),
        ];
        splitter.add(&labels, 1.0).unwrap();
    };
    take("other-p/", 0);
    for number in 0..rows {
        take("llama-p/", if are_new { number } else { 0 });
    }
    take("other-p/", 1);
    let answers = splitter.finish();
    assert_eq!(texts(&answers[1]).len(), 2);
    assert_eq!(texts(&answers[0]).is_empty(), answers[0].is_overfull());
    [answers[0].is_overfull(), answers[1].is_overfull()]
}

#[rstest::rstest]
#[case::many_rows(ROWS_MAX, false, false)]
#[case::too_many_rows(ROWS_MAX + 1, false, true)]
#[case::many_labels(OWN_SETS_MAX, true, false)]
#[case::too_many_labels(OWN_SETS_MAX + 2, true, true)]
fn an_object_with_rows_without_end_has_none_and_harms_no_other(
    #[case] rows: usize,
    #[case] are_new: bool,
    #[case] want: bool,
) {
    assert_eq!(overfull(rows, are_new), [want, false]);
}
