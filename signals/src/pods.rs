//! The names of a workload's pods, as patterns that Prometheus matches.
//!
//! Series outlive their pods, and carry nothing of the workload but the pods' names. Kubernetes
//! makes these from the workload's name, by a rule for each kind.

/// Longest workload name for which the names of its pods are not cut (a generated pod name keeps
/// 58 characters before its suffix, and a ReplicaSet's hash takes up to 11).
const NAME_LENGTH_UNCUT: usize = 46;

/// A kind of workload that this version does not scale.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "kind `{kind}` of apiVersion `{api_version}` cannot be scaled by this version: use a Deployment or StatefulSet of apps/v1"
)]
pub struct KindUnsupported {
    /// The target's apiVersion.
    pub api_version: String,
    /// The target's kind.
    pub kind: String,
}

/// A kind of workload that can be scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
}

impl TargetKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Deployment, Self::StatefulSet];

    /// The `apiVersion` and `kind` of its manifests.
    pub const fn type_meta(self) -> (&'static str, &'static str) {
        match self {
            Self::Deployment => ("apps/v1", "Deployment"),
            Self::StatefulSet => ("apps/v1", "StatefulSet"),
        }
    }

    /// The kind of that name.
    pub fn of(api_version: &str, kind: &str) -> Result<Self, KindUnsupported> {
        let named = Self::ALL
            .into_iter()
            .find(|known| known.type_meta() == (api_version, kind));
        named.ok_or_else(|| KindUnsupported {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        })
    }
}

/// RE2 for the names of the workload's pods. Pods of long names have no sure pattern, so those
/// that are ready are listed.
pub fn pod_pattern(kind: TargetKind, name: &str, ready_pods: &[String]) -> String {
    if kind == TargetKind::Deployment && name.len() > NAME_LENGTH_UNCUT {
        return listed_pattern(ready_pods);
    }
    past_pod_pattern(kind, name)
}

/// RE2 for the names of `pods`; without any a name that no pod can have, for nothing would match
/// all series without a pod.
pub fn listed_pattern(pods: &[String]) -> String {
    let names: Vec<String> = pods.iter().map(|pod| literal_pattern(pod)).collect();
    match names.as_slice() {
        [] => "-".to_owned(),
        names => format!("({})", names.join("|")),
    }
}

/// The beginning that the names of all pods of the workload `name` share.
pub fn pod_name_beginning(name: &str) -> &str {
    name.get(..NAME_LENGTH_UNCUT).unwrap_or(name)
}

/// RE2 for the names that the workload's pods have, or had, as far as its name shows. Kubernetes
/// cuts long names of a Deployment's pods, so of those only the beginning is sure.
pub fn past_pod_pattern(kind: TargetKind, name: &str) -> String {
    match kind {
        TargetKind::Deployment if name.len() > NAME_LENGTH_UNCUT => {
            format!("{}.*", literal_pattern(pod_name_beginning(name)))
        }
        TargetKind::Deployment => {
            format!("{}-[a-z0-9]+-[a-z0-9]{{5}}", literal_pattern(name))
        }
        TargetKind::StatefulSet => format!("{}-[0-9]+", literal_pattern(name)),
    }
}

/// `text` so that RE2 matches it literally.
pub(crate) fn literal_pattern(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '_');
    text.chars()
        .flat_map(|c| (!is_plain(c)).then_some('\\').into_iter().chain([c]))
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn names_are_matched_literally() {
        assert_eq!(literal_pattern("a.b-c"), "a\\.b-c");
    }

    #[rstest]
    #[case::a_deployment(TargetKind::Deployment, "llama", "llama-[a-z0-9]+-[a-z0-9]{5}")]
    #[case::a_stateful_set(TargetKind::StatefulSet, "llama", "llama-[0-9]+")]
    fn a_short_name_shows_the_pods(
        #[case] kind: TargetKind,
        #[case] name: &str,
        #[case] pattern: &str,
    ) {
        assert_eq!(pod_pattern(kind, name, &[]), pattern);
        assert_eq!(past_pod_pattern(kind, name), pattern);
    }

    #[test]
    fn of_a_long_name_the_ready_pods_are_listed_and_past_ones_begin_alike() {
        let name = "a".repeat(NAME_LENGTH_UNCUT + 1);
        let kind = TargetKind::Deployment;
        let ready = ["a-1".to_owned(), "a-2".to_owned()];
        assert_eq!(pod_pattern(kind, &name, &ready), "(a-1|a-2)");
        assert_eq!(pod_pattern(kind, &name, &[]), "-");
        let past = format!("{}.*", "a".repeat(NAME_LENGTH_UNCUT));
        assert_eq!(past_pod_pattern(kind, &name), past);
    }
}
