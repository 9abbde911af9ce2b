//! The requests of a pod that is deleted: how long they go on, and the traps that make a scale-down
//! lose them.
//!
//! A prefill pod must outlive the transfers of the prompts that it computed; a decode pod its
//! longest answer. Both are promised by the pod's termination grace, and kept by the engine: the
//! shorter of the two counts. Some traps are seen in the template alone. Whether decode's answers
//! end in time takes a measurement, which is the caller's.

mod container;

use std::{fmt, time::Duration};

use pd_core::Role;
use serde_json::Value;

use self::container::Engine;
pub use self::container::kept;
use crate::json::{list, text};

/// How long vLLM keeps the blocks of a prompt for decode to pull (`kv_lease_duration` of
/// NixlConnector), where the pod does not set it.
pub const KV_LEASE: Duration = Duration::from_secs(30);
/// Grace of a pod that states none.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// A setting of the pods by which requests are lost, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trap {
    /// A pod's requests end before they may have to.
    #[error("{limit}, and {work} may take {needed} s: raise it")]
    TooShort {
        /// The setting that ends them.
        limit: Limit,
        /// The work that is cut off.
        work: Work,
        /// Seconds that it may take.
        needed: u64,
    },
    /// The kubelet kills the engine while it still ends its requests.
    #[error(
        "terminationGracePeriodSeconds `{grace}` is below the {wait} s that the preStop hook and `--shutdown-timeout` take together: raise it"
    )]
    GraceBelowWait {
        /// Grace, seconds.
        grace: u64,
        /// Hook and timeout, seconds.
        wait: u64,
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

impl Trap {
    /// Whether it loses requests of pods that leave; the others lose those of pods that stay.
    pub const fn is_of_leaving(&self) -> bool {
        match self {
            Self::TooShort { .. }
            | Self::GraceBelowWait { .. }
            | Self::AbortsAtOnce
            | Self::ForcedShutdown => true,
            Self::LabelledOtherwise { .. } | Self::NoBootstrapPort => false,
        }
    }
}

/// The work of a pod that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Decode pulls the KV blocks of a prompt.
    KvPull,
    /// An answer is generated.
    Answer,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KvPull => "decode's pull of a prompt's KV blocks",
            Self::Answer => "an answer",
        })
    }
}

/// The setting that ends the requests of a pod that is deleted, and how long after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit {
    /// Seconds after the deletion.
    pub seconds: u64,
    /// The setting.
    pub by: EndedBy,
}

/// A setting that ends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndedBy {
    /// The kubelet kills the pod.
    Grace,
    /// vLLM waits so long, after the hook.
    ShutdownTimeout,
    /// vLLM ends its requests when the hook has ended.
    Hook,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds;
        match self.by {
            EndedBy::Grace => write!(
                f,
                "terminationGracePeriodSeconds `{seconds}` ends a pod's requests"
            ),
            EndedBy::ShutdownTimeout => write!(
                f,
                "`--shutdown-timeout` ends a pod's requests {seconds} s after its deletion"
            ),
            EndedBy::Hook => write!(
                f,
                "the preStop hook lets a pod's requests go on for `{seconds}` s"
            ),
        }
    }
}

/// How pods of a template leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// The traps that the template shows.
    pub traps: Vec<Trap>,
    /// The setting that ends their requests first; none where the template is not known, or ends
    /// them at once.
    pub limit: Option<Limit>,
}

impl Leaving {
    /// How pods of `template` leave, for `side`.
    pub fn of(template: &Value, side: Role) -> Self {
        Self::with_grace(template, side, Some(GRACE_DEFAULT.as_secs()))
    }

    /// The same of a template that an operator completes: a grace that it leaves out is not known.
    pub fn of_part(template: &Value, side: Role) -> Self {
        Self::with_grace(template, side, None)
    }

    fn with_grace(template: &Value, side: Role, default: Option<u64>) -> Self {
        if !template.is_object() {
            return Self::default();
        }
        let engines: Vec<Engine> = list(template, "/spec/containers")
            .iter()
            .map(Engine::of)
            .collect();
        let grace = template.pointer("/spec/terminationGracePeriodSeconds");
        let grace = grace.and_then(Value::as_u64).or(default);
        let mut traps = Vec::new();
        let aborts = engines.iter().any(Engine::aborts_at_once);
        let forced = engines.iter().any(|engine| engine.is_forced);
        traps.extend(aborts.then_some(Trap::AbortsAtOnce));
        traps.extend(forced.then_some(Trap::ForcedShutdown));
        let wait = engines.iter().filter_map(Engine::wait).max();
        if let Some((grace, wait)) = grace.zip(wait).filter(|(grace, wait)| wait > grace) {
            traps.push(Trap::GraceBelowWait { grace, wait });
        }
        let by_grace = grace.map(|seconds| Limit {
            seconds,
            by: EndedBy::Grace,
        });
        let limits = engines.iter().filter_map(Engine::limit).chain(by_grace);
        // Of equal ones the grace: a timeout that is raised beyond it changes nothing.
        let limit = limits.min().filter(|_| !aborts && !forced);
        if side == Role::Prefill {
            let lease = engines.iter().filter_map(|engine| engine.lease).max();
            let needed = lease.unwrap_or(KV_LEASE.as_secs());
            traps.extend(too_short(limit, Work::KvPull, needed));
        }
        traps.extend(labelled_otherwise(template, side));
        traps.extend(no_bootstrap_port(template, side));
        Self { traps, limit }
    }

    /// The traps of pods whose answers take as long as `longest`, where that is known.
    pub fn traps_for(&self, longest: Option<Duration>) -> Vec<Trap> {
        let needed =
            longest.map(|longest| longest.as_secs() + u64::from(longest.subsec_nanos() > 0));
        let measured = needed.and_then(|needed| too_short(self.limit, Work::Answer, needed));
        self.traps.iter().cloned().chain(measured).collect()
    }
}

fn too_short(limit: Option<Limit>, work: Work, needed: u64) -> Option<Trap> {
    let limit = limit.filter(|limit| limit.seconds < needed)?;
    Some(Trap::TooShort {
        limit,
        work,
        needed,
    })
}

fn no_bootstrap_port(template: &Value, side: Role) -> Option<Trap> {
    let discovered = template
        .pointer("/metadata/labels/smg.lightseek.org~1worker-type")
        .is_some();
    let port = template.pointer("/metadata/annotations/sglang.ai~1bootstrap-port");
    (side == Role::Prefill && discovered && port.is_none()).then_some(Trap::NoBootstrapPort)
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
