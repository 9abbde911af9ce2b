//! The workload that a pod's name shows, by one rule that PromQL and this program both follow.
//!
//! A Deployment's pod is called WORKLOAD-HASH-SUFFIX with a suffix of five characters, that of a
//! StatefulSet WORKLOAD-NUMBER. Neither ending has a dash but those, so that a name shows one
//! workload of each kind at most. Whatever is both is a Deployment's: a StatefulSet would need ten
//! thousand replicas and a name that ends like a hash.

use pd_signals::pods::{TargetKind, past_pod_pattern};

/// RE2 for the name of any pod, with the name of its Deployment in the first group, or that of its
/// StatefulSet in the second, or none of either.
pub const PATTERN: &str = "(.+)-[a-z0-9]+-[a-z0-9]{5}|(.+)-[0-9]+|.*";

/// Length of the end that Kubernetes gives to the name of a ReplicaSet's pod.
const SUFFIX_LENGTH: usize = 5;

/// The key of the workload of `kind` and `name`, as answers have it, where the names of its pods
/// are those of `pods` and show it.
pub fn key(kind: TargetKind, name: &str, pods: &str) -> Option<String> {
    (past_pod_pattern(kind, name) == pods && !pods.ends_with('*')).then(|| match kind {
        TargetKind::Deployment => format!("{name}/"),
        TargetKind::StatefulSet => format!("/{name}"),
    })
}

/// RE2, as PromQL quotes it, for the names of the pods of the workloads with these keys, which are
/// those that their own queries match; nothing where one is no key of a name of Kubernetes's.
pub fn pods_of(keys: &[&str]) -> Option<String> {
    let (mut deployments, mut stateful_sets) = (Vec::new(), Vec::new());
    for key in keys {
        let (name, names) = match key.split_once('/')? {
            (name, "") => (name, &mut deployments),
            ("", name) => (name, &mut stateful_sets),
            _ => return None,
        };
        let mut bytes = name.bytes();
        if name.is_empty() || !bytes.all(|b| is_word(b) || b == b'-' || b == b'.') {
            return None;
        }
        // Escaped for RE2, and once more for PromQL.
        names.push(name.replace('.', r"\\."));
    }
    let ends = [
        (deployments, "-[a-z0-9]+-[a-z0-9]{5}"),
        (stateful_sets, "-[0-9]+"),
    ];
    let patterns = ends.iter().filter(|(names, _)| !names.is_empty());
    let patterns = patterns.map(|(names, end)| format!("({}){end}", names.join("|")));
    Some(patterns.collect::<Vec<_>>().join("|"))
}

/// Whether `byte` may be anywhere in a name of Kubernetes's.
pub const fn is_word(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// The key of the workload that the name of `pod` shows, which is that of [`PATTERN`] with `$1/$2`.
pub fn key_of_pod(pod: &str) -> String {
    let are_words = |text: &str| !text.is_empty() && text.bytes().all(is_word);
    let Some((rest, last)) = pod.rsplit_once('-') else {
        return "/".to_owned();
    };
    if let Some((workload, hash)) = rest.rsplit_once('-')
        && !workload.is_empty()
        && are_words(hash)
        && are_words(last)
        && last.len() == SUFFIX_LENGTH
    {
        return format!("{workload}/");
    }
    let is_number = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    if is_number && !rest.is_empty() {
        format!("/{rest}")
    } else {
        "/".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_deployment("llama-p-7d9f8b6c5-x2x4z", "llama-p/")]
    #[case::a_stateful_set("llama-d-0", "/llama-d")]
    #[case::a_suffix_of_digits("llama-7d9f8b6c5-24567", "llama/")]
    #[case::a_short_hash("a-b-ccccc", "a/")]
    #[case::no_hash("a-ccccc", "/")]
    #[case::no_workload("-b-ccccc", "/")]
    #[case::capitals("a-B-ccccc", "/")]
    #[case::dots("a.b-0", "/a.b")]
    #[case::no_number("a-", "/")]
    #[case::nothing("", "/")]
    #[case::a_word("a", "/")]
    #[case::dashes("a--ccccc", "/")]
    #[case::a_number_alone("-0", "/")]
    fn a_name_shows_its_workload(#[case] pod: &str, #[case] key: &str) {
        assert_eq!(key_of_pod(pod), key);
    }

    #[rstest]
    #[case(&["a/"], Some("(a)-[a-z0-9]+-[a-z0-9]{5}"))]
    #[case(&["/a", "/b.1"], Some(r"(a|b\\.1)-[0-9]+"))]
    #[case(&["a/", "/b"], Some("(a)-[a-z0-9]+-[a-z0-9]{5}|(b)-[0-9]+"))]
    #[case(&["a|b/"], None)]
    #[case(&["/"], None)]
    #[case(&["a/b"], None)]
    #[case(&["a"], None)]
    fn pods_of_named_workloads_are_those_of_their_own_patterns(
        #[case] keys: &[&str],
        #[case] pods: Option<&str>,
    ) {
        assert_eq!(pods_of(keys).as_deref(), pods);
    }

    #[rstest]
    #[case(
        TargetKind::Deployment,
        "llama",
        "llama-[a-z0-9]+-[a-z0-9]{5}",
        Some("llama/")
    )]
    #[case(TargetKind::StatefulSet, "llama", "llama-[0-9]+", Some("/llama"))]
    #[case::listed(TargetKind::Deployment, "llama", "(llama-1-abcde)", None)]
    fn a_workload_has_a_key_where_names_show_it(
        #[case] kind: TargetKind,
        #[case] name: &str,
        #[case] pods: &str,
        #[case] want: Option<&str>,
    ) {
        assert_eq!(key(kind, name, pods).as_deref(), want);
        let long = "a".repeat(47);
        assert_eq!(
            key(kind, &long, &past_pod_pattern(kind, &long)).is_some(),
            kind == TargetKind::StatefulSet
        );
    }
}
