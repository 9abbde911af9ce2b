//! Whether the API server takes `Gt` and `Lt` by itself, found out by asking it.
//!
//! A probe is the dry-run creation of a pod with such a toleration in the webhook's own namespace, which its configuration
//! leaves out, so that the API server answers for itself. Its refusal in the known words means off, success means on,
//! anything else (a quota, a policy, an outage) means nothing, and what was known stays. Before anything is known the gate
//! counts as off: rewriting is right on every cluster. Probes go on for ever, for clusters are upgraded and rolled back.
//!
//! Several API servers may differ while a change rolls out. A rewritten pod is right with all of them, a numeric one is
//! not, so a single off counts at once, and on only when it was heard several times in a row.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, Toleration},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use pd_runtime::readiness::ReadinessHandle;
use pd_tolerations::Comparison;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{args::GateMode, metrics::Metrics};

/// How many probes in a row must say on.
const ON_AFTER: u32 = 3;
/// Time between probes while nothing is known.
const EAGER: Duration = Duration::from_millis(250);
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// The gate as it is known now. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    is_on: Arc<AtomicBool>,
}

impl Gate {
    /// A gate that is known.
    pub fn fixed(comparison: Comparison) -> Self {
        let gate = Self::default();
        gate.set(comparison);
        gate
    }

    /// What the API server does by itself.
    pub fn read(&self) -> Comparison {
        if self.is_on.load(Ordering::Relaxed) {
            Comparison::On
        } else {
            Comparison::Off
        }
    }

    fn set(&self, comparison: Comparison) {
        self.is_on
            .store(comparison == Comparison::On, Ordering::Relaxed);
    }
}

/// What a probe's answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The API server compares numbers, or does not.
    Says(Comparison),
    /// The answer was about something else.
    Nothing(String),
}

/// What follows from all answers so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Judge {
    known: Option<Comparison>,
    on_in_a_row: u32,
}

impl Judge {
    /// Takes one more answer, and gives what is known now.
    pub fn hear(&mut self, heard: &Heard) -> Option<Comparison> {
        match heard {
            Heard::Says(Comparison::Off) => {
                self.on_in_a_row = 0;
                self.known = Some(Comparison::Off);
            }
            Heard::Says(Comparison::On) => {
                self.on_in_a_row = self.on_in_a_row.saturating_add(1);
                if self.on_in_a_row >= ON_AFTER {
                    self.known = Some(Comparison::On);
                }
            }
            Heard::Nothing(_) => {}
        }
        self.known
    }

    const fn is_settled(self) -> bool {
        match self.known {
            None => false,
            Some(Comparison::Off) => self.on_in_a_row == 0,
            Some(Comparison::On) => true,
        }
    }
}

/// Probes until the future is dropped.
pub async fn watch(
    gate: Gate,
    mode: GateMode,
    client: Client,
    namespace: String,
    interval: Duration,
    ready: ReadinessHandle,
    metrics: Arc<Metrics>,
) {
    let fixed = match mode {
        GateMode::Native => Some(Comparison::On),
        GateMode::Rewrite => Some(Comparison::Off),
        GateMode::Auto => None,
    };
    if let Some(comparison) = fixed {
        gate.set(comparison);
        metrics.gate(comparison);
        ready.set_ready();
        return;
    }
    let pods = Api::<Pod>::namespaced(client, &namespace);
    let mut judge = Judge::default();
    let mut told = None;
    loop {
        let heard = probe(&pods).await;
        let known = judge.hear(&heard);
        if let Heard::Nothing(reason) = &heard {
            tracing::warn!(reason, "the gate cannot be probed");
            if known.is_none() {
                ready.set_waiting(format!("the gate cannot be probed: {reason}"));
            }
        }
        if let Some(comparison) = known.filter(|_| known != told) {
            tracing::info!(is_on = comparison == Comparison::On, "gate known");
            gate.set(comparison);
            metrics.gate(comparison);
            ready.set_ready();
            told = known;
        }
        let pause = if judge.is_settled() {
            interval
        } else {
            EAGER.min(interval)
        };
        sleep(pause).await;
    }
}

async fn probe(pods: &Api<Pod>) -> Heard {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match timeout(PROBE_LIMIT, pods.create(&parameters, &probe_pod())).await {
        Ok(answer) => heard(answer.map(|_| ())),
        Err(_) => Heard::Nothing(format!("no answer in {} s", PROBE_LIMIT.as_secs())),
    }
}

/// What an answer to a probe says.
fn heard(answer: Result<(), kube::Error>) -> Heard {
    match answer {
        Ok(()) => Heard::Says(Comparison::On),
        Err(kube::Error::Api(status))
            if status.code == 422 && is_about_operator(&status.message) =>
        {
            Heard::Says(Comparison::Off)
        }
        Err(error) => Heard::Nothing(error.to_string()),
    }
}

/// Every release names the field; the list of supported values differs.
fn is_about_operator(message: &str) -> bool {
    message.contains("spec.tolerations[0].operator: Unsupported value")
}

/// A pod that the restricted Pod Security Standard takes.
fn probe_pod() -> Pod {
    let restricted =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    let small = json!({ "requests": { "cpu": "1m", "memory": "1Mi" }, "limits": { "cpu": "1m", "memory": "1Mi" } });
    Pod {
        metadata: ObjectMeta {
            generate_name: Some("pd-webhook-probe-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            security_context: serde_json::from_value(
                json!({ "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } }),
            )
            .ok(),
            containers: vec![Container {
                name: "probe".to_owned(),
                image: Some("probe".to_owned()),
                security_context: serde_json::from_value(restricted).ok(),
                resources: serde_json::from_value(small).ok(),
                ..Container::default()
            }],
            tolerations: Some(vec![Toleration {
                key: Some("pdautoscaler.io/probe".to_owned()),
                operator: Some("Gt".to_owned()),
                value: Some("0".to_owned()),
                ..Toleration::default()
            }]),
            ..PodSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::off_at_once("-", Some(Comparison::Off))]
    #[case::on_only_after_several("++", None)]
    #[case::on("+++", Some(Comparison::On))]
    #[case::one_server_lacks_it("++-++", Some(Comparison::Off))]
    #[case::upgraded("-+++", Some(Comparison::On))]
    #[case::rolled_back("+++-", Some(Comparison::Off))]
    #[case::an_outage_changes_nothing("+++??", Some(Comparison::On))]
    #[case::nothing_heard("??", None)]
    fn answers_are_judged_carefully(#[case] answers: &str, #[case] want: Option<Comparison>) {
        let mut judge = Judge::default();
        let mut known = None;
        for answer in answers.chars() {
            known = judge.hear(&match answer {
                '+' => Heard::Says(Comparison::On),
                '-' => Heard::Says(Comparison::Off),
                _ => Heard::Nothing("503".to_owned()),
            });
        }
        assert_eq!(known, want);
    }

    #[test]
    fn the_probe_asks_for_one_numeric_toleration() {
        let pod = serde_json::to_value(probe_pod()).unwrap();
        assert_eq!(pod["spec"]["tolerations"][0]["operator"], "Gt");
        assert_eq!(
            pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"][0],
            "ALL"
        );
        assert!(is_about_operator(
            r#"Pod "x" is invalid: spec.tolerations[0].operator: Unsupported value: "Gt": supported values: "Equal", "Exists""#
        ));
    }

    #[test]
    fn an_unknown_gate_counts_as_off() {
        assert_eq!(Gate::default().read(), Comparison::Off);
        assert_eq!(Gate::fixed(Comparison::On).read(), Comparison::On);
    }
}
