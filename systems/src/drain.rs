//! The traps that make a scale-down lose requests, and how the system is brought to take the
//! replica that has least to lose.
//!
//! A prefill pod must outlive the transfers of the prompts that it computed; a decode pod its
//! longest answer. Both are promised by the pod's termination grace, and kept by the engine.

use std::time::Duration;

use pd_core::Role;
use serde_json::Value;

use crate::{
    json::{list, text},
    kind::Victim,
};

/// How long vLLM keeps the blocks of a prompt for decode to pull (`kv_lease_duration` of
/// NixlConnector).
pub const KV_LEASE: Duration = Duration::from_secs(30);
/// Grace of a pod that states none.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);
/// Rank among a ReplicaSet's pods when it shrinks: the lowest goes first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Marks the RoleInstance that goes first.
pub const DELETE_LABEL: &str = "rbg.workloads.x-k8s.io/role-instance-delete";

/// A setting of the pods by which a scale-down loses requests, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trap {
    /// A prefill pod leaves before decode has pulled what it computed.
    #[error("terminationGracePeriodSeconds `{grace}` is below the {} s that decode may take to pull a prompt's KV blocks: raise it", KV_LEASE.as_secs())]
    GraceBelowLease {
        /// Grace, in seconds.
        grace: u64,
    },
    /// The engine ends its requests at once.
    #[error(
        "vLLM without `--shutdown-timeout` and preStop hook ends its requests when a pod is deleted: set one of them"
    )]
    AbortsAtOnce,
    /// The engine is made to end its requests at once.
    #[error("`SGL_FORCE_SHUTDOWN=1` ends SGLang's requests when a pod is deleted: remove it")]
    ForcedShutdown,
    /// The pods are labelled as another role.
    #[error(
        "pods of the {side} target have label `{label}: {value}`: the router sends them another role's requests"
    )]
    LabelledOtherwise {
        /// The role of the target.
        side: Role,
        /// The label.
        label: &'static str,
        /// Its value.
        value: String,
    },
    /// The gateway finds no bootstrap port.
    #[error(
        "prefill pods that SMG discovers lack annotation `sglang.ai/bootstrap-port`: add it, or they get no requests"
    )]
    NoBootstrapPort,
}

/// A mark that makes a replica the next to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Annotation [`DELETION_COST`] of a pod.
    PodAnnotation {
        /// The pod.
        pod: String,
        /// The value.
        cost: i32,
    },
    /// Label [`DELETE_LABEL`] of a RoleInstance.
    RoleInstanceLabel {
        /// The RoleInstance.
        instance: String,
    },
}

/// The marks that have the `fewer` replicas with the least work in flight go first. `work` has each
/// replica's name (a pod's or a RoleInstance's) with its requests in flight.
pub fn marks(victim: Victim, work: &[(String, u32)], fewer: u32) -> Vec<Mark> {
    match victim {
        Victim::DeletionCost => work
            .iter()
            .map(|(pod, requests)| Mark::PodAnnotation {
                pod: pod.clone(),
                cost: i32::try_from(*requests).unwrap_or(i32::MAX),
            })
            .collect(),
        Victim::DeleteLabel => {
            let mut work: Vec<&(String, u32)> = work.iter().collect();
            work.sort_by(|(a, fewer), (b, more)| (fewer, a).cmp(&(more, b)));
            let fewer = usize::try_from(fewer).unwrap_or(usize::MAX);
            let going = work.into_iter().take(fewer);
            going
                .map(|(instance, _)| Mark::RoleInstanceLabel {
                    instance: instance.clone(),
                })
                .collect()
        }
        Victim::HighestOrdinal | Victim::Own => Vec::new(),
    }
}

/// The traps of a pod template for `side`.
pub fn traps(template: &Value, side: Role) -> Vec<Trap> {
    let mut traps = Vec::new();
    let grace = template
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_u64)
        .unwrap_or(GRACE_DEFAULT.as_secs());
    if side == Role::Prefill && grace < KV_LEASE.as_secs() {
        traps.push(Trap::GraceBelowLease { grace });
    }
    for container in list(template, "/spec/containers") {
        if is_vllm(container) && !drains(container) {
            traps.push(Trap::AbortsAtOnce);
        }
        let forced = list(container, "/env").iter().any(|env| {
            text(env, "/name") == Some("SGL_FORCE_SHUTDOWN")
                && matches!(text(env, "/value"), Some("1" | "true"))
        });
        if forced {
            traps.push(Trap::ForcedShutdown);
        }
    }
    traps.extend(labelled_otherwise(template, side));
    let discovered = template
        .pointer("/metadata/labels/smg.lightseek.org~1worker-type")
        .is_some();
    let port = template.pointer("/metadata/annotations/sglang.ai~1bootstrap-port");
    if side == Role::Prefill && discovered && port.is_none() {
        traps.push(Trap::NoBootstrapPort);
    }
    traps
}

/// The words of a container's command.
fn words(container: &Value) -> impl Iterator<Item = &str> {
    let words = list(container, "/command")
        .iter()
        .chain(list(container, "/args"));
    words.filter_map(Value::as_str)
}

/// `vllm serve` and its older module. An image's name is no evidence: routers come in engines'
/// images.
fn is_vllm(container: &Value) -> bool {
    let line = words(container).collect::<Vec<_>>().join(" ");
    line.contains("vllm serve") || line.contains("vllm.entrypoints.openai.api_server")
}

fn drains(container: &Value) -> bool {
    container.pointer("/lifecycle/preStop").is_some()
        || words(container).any(|word| word.contains("--shutdown-timeout"))
}

/// Roles that pods of a side may be labelled with, by label (llm-d-router, SMG).
fn labelled_otherwise(template: &Value, side: Role) -> Option<Trap> {
    let (label, pointer) = [
        ("llm-d.ai/role", "/metadata/labels/llm-d.ai~1role"),
        (
            "smg.lightseek.org/worker-type",
            "/metadata/labels/smg.lightseek.org~1worker-type",
        ),
    ]
    .into_iter()
    .find(|(_, pointer)| text(template, pointer).is_some())?;
    let value = text(template, pointer)?;
    let fits = match side {
        Role::Prefill => value.contains("prefill"),
        Role::Decode => value.contains("decode") || value == "both" || value == "regular",
    };
    (!fits).then(|| Trap::LabelledOtherwise {
        side,
        label,
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests;
