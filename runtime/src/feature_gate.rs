//! Whether the API server compares numbers in tolerations, found out by the dry run of a pod.
//!
//! Owns the pod, the question and the reading of the answer, and changes nothing in the cluster.
//! Who asks, how often, and what follows is the caller's.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::kubernetes::error_message;

/// How long an answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Key of the probe's toleration.
const KEY: &str = "pdautoscaler.io/probe";

/// The answer to a pod with a toleration of operator `Gt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// The pod was taken as it is.
    Kept,
    /// The pod was taken with `Exists` in place of the number.
    Rewritten,
    /// The pod was taken with another operator.
    Changed(Option<String>),
    /// The operator was refused.
    Refused,
}

/// Why a probe has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The pod cannot be built.
    #[error("the probe cannot be built: {0}")]
    Pod(#[from] serde_json::Error),
    /// The answer is about something else, such as a quota, a policy or an outage.
    #[error("{}", error_message(.0))]
    Api(kube::Error),
    /// The API server takes too long.
    #[error("no answer in {} s", ANSWER_LIMIT.as_secs())]
    NoAnswer,
}

/// Asks by the dry run of a pod in `namespace`, whose name begins with `name_prefix`.
pub async fn probe(
    client: &Client,
    namespace: &str,
    name_prefix: &str,
) -> Result<ProbeAnswer, ProbeError> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(pod(name_prefix))?;
    match timeout(ANSWER_LIMIT, pods.create(&parameters, &pod)).await {
        Ok(Ok(made)) => Ok(answer_of(&made)),
        Ok(Err(kube::Error::Api(status)))
            if status.code == 422 && is_about_operator(&status.message) =>
        {
            Ok(ProbeAnswer::Refused)
        }
        Ok(Err(error)) => Err(ProbeError::Api(error)),
        Err(_) => Err(ProbeError::NoAnswer),
    }
}

fn answer_of(made: &Pod) -> ProbeAnswer {
    let spec = made.spec.as_ref();
    let tolerations = spec.and_then(|spec| spec.tolerations.as_ref());
    let ours = tolerations
        .into_iter()
        .flatten()
        .find(|one| one.key.as_deref() == Some(KEY));
    match ours.and_then(|one| one.operator.as_deref()) {
        Some("Gt") => ProbeAnswer::Kept,
        Some("Exists") => ProbeAnswer::Rewritten,
        other => ProbeAnswer::Changed(other.map(str::to_owned)),
    }
}

/// Every release names the field; the list of supported values differs. Something may have put
/// tolerations of its own before ours, which is the only one with this operator.
fn is_about_operator(message: &str) -> bool {
    message.split("spec.tolerations[").skip(1).any(|rest| {
        let index = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
        index.starts_with("].operator: Unsupported value: \"Gt\"")
    })
}

/// A pod that the restricted Pod Security Standard takes.
fn pod(name_prefix: &str) -> Value {
    json!({
        "metadata": { "generateName": name_prefix },
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "probe", "image": "probe",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "resources": { "requests": { "cpu": "1m", "memory": "1Mi" }, "limits": { "cpu": "1m", "memory": "1Mi" } },
            }],
            "tolerations": [{ "key": KEY, "operator": "Gt", "value": "0" }],
        },
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::kept("Gt", ProbeAnswer::Kept)]
    #[case::rewritten("Exists", ProbeAnswer::Rewritten)]
    #[case::made_something_else("Equal", ProbeAnswer::Changed(Some("Equal".to_owned())))]
    fn the_operator_of_the_pod_that_comes_back_is_the_answer(
        #[case] operator: &str,
        #[case] answer: ProbeAnswer,
    ) {
        let mut made = pod("probe-");
        made["spec"]["tolerations"][0]["operator"] = json!(operator);
        let made: Pod = serde_json::from_value(made).unwrap();
        assert_eq!(answer_of(&made), answer);
    }

    #[test]
    fn the_refusal_of_the_operator_is_told_from_others() {
        assert!(is_about_operator(
            r#"Pod "x" is invalid: spec.tolerations[0].operator: Unsupported value: "Gt": supported values: "Equal", "Exists""#
        ));
        assert!(is_about_operator(
            r#"Pod "x" is invalid: spec.tolerations[12].operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt""#
        ));
        for other in [
            "exceeded quota: pods",
            r#"spec.tolerations[0].operator: Unsupported value: "Near": supported values: "Equal", "Exists""#,
            r#"spec.topologySpreadConstraints[0].operator: Unsupported value: "Gt""#,
        ] {
            assert!(!is_about_operator(other), "{other}");
        }
    }
}
