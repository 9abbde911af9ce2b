//! KServe's LLMInferenceServices: decode is the service itself, prefill a block of it.
//!
//! Three cases. With `replicas` the service is written, for its controller reverts its children.
//! With `scaling` the controller makes an autoscaler of its own, which owns them. With neither it
//! leaves its children's replicas alone, and the child is written; unless the service is made of
//! other objects (`baseRefs`) that may state replicas: then the service is written.

use pd_core::Role;
use serde_json::Value;

use super::{
    apps::{DEPLOYMENT, workload},
    lws::{GROUP, LEADER_WORKER_SET, NAME, WORKER, groups},
};
use crate::{
    build::{bare, template_gpus},
    drain::Leaving,
    gpus::{GpusUnknown, sum},
    json::{count, list, name, text},
    kind::{Form, Kind, Roles, Victim},
    owner::{Owner, Step, controller, deployer, referring},
    place::{Field, Place, PodSelector, Serving, Unit},
    refusal::Refusal,
    selector::Selector,
    system::System,
    target::{Near, Nearby, ObjectRef, Target, Which},
};

/// LLMInferenceService.
#[derive(Clone, Copy, Debug)]
pub struct LlmInferenceServices;

/// LLMInferenceServices.
pub const LLM_INFERENCE_SERVICE: Kind = Kind {
    group: "serving.kserve.io",
    version: "v1alpha2",
    kind: "LLMInferenceService",
    plural: "llminferenceservices",
    roles: Roles::Several,
    form: Form::JsonPatch,
    switch: "llmInferenceServices",
    replica: "1 pod, or a LeaderWorkerSet group where `worker` is set",
    serving: "every pod, or the leader",
    victim: Victim::DeletionCost,
    refused: "`scaling` of the role; a stopped service",
};

/// LLMInferenceServices of the older version.
pub const LLM_INFERENCE_SERVICE_V1ALPHA1: Kind = Kind {
    version: "v1alpha1",
    ..LLM_INFERENCE_SERVICE
};

const STOP: &str = "serving.kserve.io/stop";
/// LeaderWorkerSet and group, or the pod.
const KEY: &[&[&str]] = &[&[NAME, "app.kubernetes.io/name"], &[GROUP]];

impl System for LlmInferenceServices {
    fn name(&self) -> &'static str {
        "KServe LLMInferenceService"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 2] = [LLM_INFERENCE_SERVICE, LLM_INFERENCE_SERVICE_V1ALPHA1];
        &KINDS
    }

    fn beside(&self, _: &Target, object: &Value) -> Vec<Nearby> {
        let children = format!(
            "app.kubernetes.io/name={},app.kubernetes.io/part-of=llminferenceservice",
            name(object)
        );
        let of = |kind: &Kind| Nearby::of(kind, Which::Labelled(children.clone()));
        vec![of(&DEPLOYMENT), of(&LEADER_WORKER_SET)]
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        let service = near.object;
        let (role, block) = block(target, service)?;
        let stop = format!("/metadata/annotations/{}", crate::json::escaped(STOP));
        if text(service, &stop) == Some("true") {
            return Err(Refusal::Stopped {
                kind: target.kind.clone(),
                name: target.name.clone(),
                annotation: STOP,
            });
        }
        let mut place = match child(service, near, role) {
            Some(child) if is_left_alone(service, block) => of_child(target, near, child, role)?,
            child => of_service(target, near, child, role, block),
        };
        place.role = Some(role.as_str().to_owned());
        if block.get("scaling").is_some_and(Value::is_object) {
            let remedy = "its `scaling` makes an autoscaler: remove it and set `replicas` instead";
            place
                .owners
                .push(Owner::new(&target.kind, &target.name, remedy));
        }
        Ok(place)
    }
}

/// The role, and its block of the spec.
fn block<'a>(target: &Target, service: &'a Value) -> Result<(Role, &'a Value), Refusal> {
    let (kind, name) = (target.kind.clone(), target.name.clone());
    let prefill = service
        .pointer("/spec/prefill")
        .filter(|block| block.is_object());
    let have = || {
        let roles = if prefill.is_some() {
            &Role::ALL[..]
        } else {
            &[Role::Decode]
        };
        roles.iter().map(|role| role.as_str().to_owned()).collect()
    };
    let role = match target.role.as_deref() {
        None => target.side,
        Some("prefill") => Role::Prefill,
        Some("decode") => Role::Decode,
        Some(role) => {
            let role = role.to_owned();
            return Err(Refusal::RoleUnknown {
                kind,
                name,
                role,
                have: have(),
            });
        }
    };
    match (role, prefill) {
        (Role::Decode, _) => Ok((role, &service["spec"])),
        (Role::Prefill, Some(block)) => Ok((role, block)),
        (Role::Prefill, None) => Err(Refusal::RoleUnknown {
            kind,
            name,
            role: role.as_str().to_owned(),
            have: have(),
        }),
    }
}

/// Whether the controller keeps its child's replicas as they are.
fn is_left_alone(service: &Value, block: &Value) -> bool {
    block.get("replicas").is_none() && list(service, "/spec/baseRefs").is_empty()
}

/// The workload that the controller made for `role`.
fn child<'a>(service: &Value, near: &Near<'a>, role: Role) -> Option<&'a Value> {
    let is_child = |object: &&Value| {
        let owner = list(object, "/metadata/ownerReferences")
            .iter()
            .any(|owner| {
                text(owner, "/kind") == Some(LLM_INFERENCE_SERVICE.kind)
                    && text(owner, "/name") == Some(name(service))
            });
        let component = text(object, "/metadata/labels/app.kubernetes.io~1component");
        let prefill = component.is_some_and(|component| component.ends_with("-prefill"));
        let works = component.is_some_and(|component| component.contains("-workload"));
        owner && works && prefill == (role == Role::Prefill)
    };
    let deployments = near.of_kind(DEPLOYMENT.kind);
    deployments
        .chain(near.of_kind(LEADER_WORKER_SET.kind))
        .find(is_child)
}

fn of_child(target: &Target, near: &Near<'_>, child: &Value, role: Role) -> Result<Place, Refusal> {
    let own = Near {
        object: child,
        ..*near
    };
    let leave_alone = &[LLM_INFERENCE_SERVICE.kind];
    let target = &Target {
        role: None,
        side: role,
        ..target.clone()
    };
    let mut place = if text(child, "/kind") == Some(LEADER_WORKER_SET.kind) {
        groups(target, &own, leave_alone)?
    } else {
        workload(target, &own, leave_alone)?
    };
    let service = ObjectRef::new(&LLM_INFERENCE_SERVICE, name(near.object));
    place.owners.extend(referring(near, &[&service]));
    place.owners.extend(controller(near.object, &[]));
    Ok(place)
}

fn of_service(
    target: &Target,
    near: &Near<'_>,
    child: Option<&Value>,
    role: Role,
    block: &Value,
) -> Place {
    let service = near.object;
    let kind = target.version_of([&LLM_INFERENCE_SERVICE, &LLM_INFERENCE_SERVICE_V1ALPHA1]);
    let stated = count(block, "/replicas");
    let mut place = bare(kind, near, stated);
    // Without a number of its own, a service has what its child has.
    let now = child.and_then(|child| count(child, "/spec/replicas"));
    place.desired = stated.or(now).unwrap_or(1);
    let steps: &[&str] = match role {
        Role::Prefill => &["spec", "prefill", "replicas"],
        Role::Decode => &["spec", "replicas"],
    };
    place.field = Field::Path {
        pointer: format!("/{}", steps.join("/")),
        tests: Vec::new(),
    };
    place.owners.extend(controller(service, &[]));
    let steps: Vec<Step<'_>> = steps.iter().map(|step| Step::Field(step)).collect();
    place.owners.extend(deployer(service, &steps));
    if let Some(child) = child {
        let kind = if text(child, "/kind") == Some(LEADER_WORKER_SET.kind) {
            &LEADER_WORKER_SET
        } else {
            &DEPLOYMENT
        };
        place
            .owners
            .extend(referring(near, &[&ObjectRef::new(kind, name(child))]));
        place.rolling_out = crate::json::has_older(child, "/status");
    }
    let labels: &[&str] = match role {
        Role::Prefill => &["prefill"],
        Role::Decode => &["decode", "both"],
    };
    place.pods = PodSelector::labelled(
        Selector::equal(&[
            ("app.kubernetes.io/name", name(service)),
            ("app.kubernetes.io/part-of", "llminferenceservice"),
            ("kserve.io/component", "workload"),
        ])
        .and("llm-d.ai/role", labels),
    );
    let size = size(block);
    place.unit = Unit {
        pods: size,
        key: if size > 1 { KEY } else { Unit::POD.key },
        serving: if size > 1 {
            Serving::Label(WORKER, "0")
        } else {
            Serving::Every
        },
    };
    if size > 1 {
        place.victim = Victim::HighestOrdinal;
    }
    place.gpus = gpus(block, size, near);
    let template = serde_json::json!({ "spec": block["template"] });
    if block["template"].is_object() {
        // Whatever it leaves out comes of a configuration of the operator.
        place.leaving = Leaving::of_part(&template, target.side);
    }
    place
}

/// Pods of one replica: a group where the block has workers, of as many as its parallelism says.
fn size(block: &Value) -> u32 {
    if !block.get("worker").is_some_and(Value::is_object) {
        return 1;
    }
    let of = |field: &str| count(block, &format!("/parallelism/{field}"));
    let size = match (of("data"), of("dataLocal")) {
        (Some(data), Some(local)) => data.div_ceil(local.max(1)),
        _ => of("pipeline").unwrap_or(1),
    };
    size.max(1)
}

/// GPUs of one replica: of the limits, or of the parallelism where presets fill the limits in.
fn gpus(block: &Value, size: u32, near: &Near<'_>) -> Result<u32, GpusUnknown> {
    let of = |field: &str| template_gpus(&serde_json::json!({ "spec": block[field] }), near);
    let known = sum([(1, of("template")), (size - 1, of("worker"))]);
    if known != Err(GpusUnknown::NoneAsked) {
        return known;
    }
    let parallel = |field: &str| count(block, &format!("/parallelism/{field}"));
    match (parallel("tensor"), parallel("dataLocal")) {
        (None, None) => known,
        (tensor, local) => {
            let pod = tensor.unwrap_or(1).saturating_mul(local.unwrap_or(1));
            Ok(pod.saturating_mul(size))
        }
    }
}

#[cfg(test)]
mod tests;
