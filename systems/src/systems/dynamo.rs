//! NVIDIA Dynamo: components of a DynamoGraphDeployment, and their scaling adapters.
//!
//! With `scalingAdapter` a component's replicas are refused to everybody but the adapter's
//! controller, by a webhook; the adapter is the target then. What the operator makes of a
//! component, such as PodCliques, it writes again at every reconcile, and is never a target. A
//! frontend drops the model when its last worker leaves, and shows no demand from then on, so that
//! every role keeps one replica.

use pd_core::Role;
use serde_json::{Value, json};

use super::lws::{GROUP, NAME, WORKER};
use crate::{
    build::{Entry, adapted, bare, entry, listed, template_gpus},
    drain::Leaving,
    gpus::GpusUnknown,
    json::{count, escaped, has_older, is_true, list, name, text},
    kind::{Form, Kind, Roles, Victim},
    owner::{Owner, Step, deployer},
    place::{Field, Floor, Place, PodSelector, Serving, Unit},
    refusal::{CREATE, Refusal},
    selector::Selector,
    system::System,
    target::{Near, Nearby, Target, Which},
};

/// Dynamo.
#[derive(Clone, Copy, Debug)]
pub struct Dynamo;

/// DynamoGraphDeployments.
pub const GRAPH: Kind = Kind {
    group: "nvidia.com",
    version: "v1beta1",
    kind: "DynamoGraphDeployment",
    plural: "dynamographdeployments",
    roles: Roles::Several,
    form: Form::JsonPatch,
    switch: "dynamo",
    replica: "`multinode.nodeCount` pods, or 1 pod",
    serving: "leader",
    victim: Victim::Own,
    refused: "a component with scalingAdapter (its adapter is the target); below `minAvailable`; to zero",
};

/// DynamoGraphDeployments of the older version, whose components are a map `services`.
pub const GRAPH_V1ALPHA1: Kind = Kind {
    version: "v1alpha1",
    ..GRAPH
};

/// Scaling adapters.
pub const ADAPTER: Kind = Kind {
    kind: "DynamoGraphDeploymentScalingAdapter",
    plural: "dynamographdeploymentscalingadapters",
    roles: Roles::One,
    form: Form::Scale,
    refused: "below `minAvailable` of its component; to zero",
    ..GRAPH
};

/// Scaling adapters of the older version.
pub const ADAPTER_V1ALPHA1: Kind = Kind {
    version: "v1alpha1",
    ..ADAPTER
};

/// The group of a component's replica with several nodes, as Grove or LWS has it, or the pod.
const KEY: &[&[&str]] = &[
    &[
        "grove.io/podcliquescalinggroup",
        NAME,
        "nvidia.com/dynamo-component",
    ],
    &["grove.io/podcliquescalinggroup-replica-index", GROUP],
];

impl System for Dynamo {
    fn name(&self) -> &'static str {
        "NVIDIA Dynamo"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 4] = [GRAPH, GRAPH_V1ALPHA1, ADAPTER, ADAPTER_V1ALPHA1];
        &KINDS
    }

    fn beside(&self, target: &Target, object: &Value) -> Vec<Nearby> {
        if target.kind != ADAPTER.kind {
            return Vec::new();
        }
        let graph = text(object, "/spec/dgdRef/name").unwrap_or_default();
        let kind = target.version_of([&GRAPH, &GRAPH_V1ALPHA1]);
        vec![Nearby::of(kind, Which::Named(graph.to_owned()))]
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        if target.kind == ADAPTER.kind {
            return of_adapter(target, near);
        }
        let component = component(target, near.object)?;
        if has_adapter(component.value) {
            let adapter = format!("{}-{}", name(near.object), component.name.to_lowercase());
            return Err(Refusal::ByAdapter {
                kind: target.kind.clone(),
                name: target.name.clone(),
                role: component.name,
                adapter_kind: ADAPTER.kind,
                adapter,
            });
        }
        let place = component.place(near);
        Ok(of_component(place, near.object, &component, target, near))
    }
}

/// A component of a graph, of either version.
struct Component<'a> {
    name: String,
    value: &'a Value,
    /// Its index in `components`; nothing for an entry of `services`.
    index: Option<usize>,
}

impl Component<'_> {
    fn place(&self, near: &Near<'_>) -> Place {
        if let Some(index) = self.index {
            let entry = Entry {
                index,
                name: &self.name,
                value: self.value,
            };
            return listed(&GRAPH, near, "/spec/components", &entry, "/replicas");
        }
        let mut place = bare(&GRAPH_V1ALPHA1, near, count(self.value, "/replicas"));
        place.field = Field::Path {
            pointer: format!("/spec/services/{}/replicas", escaped(&self.name)),
            // The map is by name: its entry is the role that was meant, or the patch fails.
            tests: Vec::new(),
        };
        place
            .owners
            .extend(crate::owner::controller(near.object, &[]));
        let steps = ["spec", "services", &self.name, "replicas"].map(Step::Field);
        place.owners.extend(deployer(near.object, &steps));
        place
    }
}

/// The component that the target names, or the only one of its side.
fn component<'a>(target: &Target, graph: &'a Value) -> Result<Component<'a>, Refusal> {
    let Some(services) = graph.pointer("/spec/services").and_then(Value::as_object) else {
        let entry = entry(target, list(graph, "/spec/components"), side)?;
        return Ok(Component {
            name: entry.name.to_owned(),
            value: entry.value,
            index: Some(entry.index),
        });
    };
    let (kind, object) = (target.kind.clone(), target.name.clone());
    let have = || services.keys().cloned().collect();
    if let Some(role) = &target.role {
        let value = services.get(role).ok_or_else(|| Refusal::RoleUnknown {
            kind,
            name: object,
            role: role.clone(),
            have: have(),
        })?;
        return Ok(Component {
            name: role.clone(),
            value,
            index: None,
        });
    }
    let mut fitting = services
        .iter()
        .filter(|(_, value)| side(value) == Some(target.side));
    match (fitting.next(), fitting.next()) {
        (Some((name, value)), None) => Ok(Component {
            name: name.clone(),
            value,
            index: None,
        }),
        _ => Err(Refusal::RoleMissing {
            kind,
            name: object,
            have: have(),
        }),
    }
}

/// The role of a component, as far as its type says: without separate roles, `worker` decodes.
fn side(component: &Value) -> Option<Role> {
    match (
        component_type(component),
        text(component, "/subComponentType"),
    ) {
        (Some("prefill"), _) | (_, Some("prefill")) => Some(Role::Prefill),
        (Some("decode"), _) | (_, Some("decode")) => Some(Role::Decode),
        _ => None,
    }
}

fn component_type(component: &Value) -> Option<&str> {
    text(component, "/type").or_else(|| text(component, "/componentType"))
}

/// `scalingAdapter: {}` is enough to have one; v1alpha1 may state that it is off.
fn has_adapter(component: &Value) -> bool {
    let adapter = component
        .get("scalingAdapter")
        .filter(|adapter| adapter.is_object());
    adapter.is_some_and(|adapter| adapter["enabled"] != false)
}

fn of_adapter(target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
    let adapter = near.object;
    target.without_role()?;
    let graph_name = text(adapter, "/spec/dgdRef/name").unwrap_or_default();
    let graph = near
        .named(GRAPH.kind, graph_name)
        .ok_or_else(|| target.lacks(&GRAPH, graph_name, CREATE))?;
    let role = text(adapter, "/spec/dgdRef/componentName")
        .or_else(|| text(adapter, "/spec/dgdRef/serviceName"))
        .unwrap_or_default();
    let of_graph = Target {
        role: Some(role.to_owned()),
        ..target.clone()
    };
    let component = component(&of_graph, graph)?;
    let kind = target.version_of([&ADAPTER, &ADAPTER_V1ALPHA1]);
    let place = adapted(kind, near, adapter);
    Ok(of_component(place, graph, &component, target, near))
}

fn of_component(
    mut place: Place,
    graph: &Value,
    component: &Component<'_>,
    target: &Target,
    near: &Near<'_>,
) -> Place {
    let value = component.value;
    place.role = Some(component.name.clone());
    place.pods = PodSelector::labelled(Selector::equal(&[
        ("nvidia.com/dynamo-graph-deployment-name", name(graph)),
        ("nvidia.com/dynamo-component", &component.name),
    ]));
    // `multinode: {}` means two nodes.
    let multinode = value
        .get("multinode")
        .filter(|multinode| multinode.is_object());
    let nodes = multinode.map_or(1, |multinode| count(multinode, "/nodeCount").unwrap_or(2));
    place.unit = Unit {
        pods: nodes.max(1),
        key: if nodes > 1 { KEY } else { Unit::POD.key },
        serving: if nodes > 1 { leaders() } else { Serving::Every },
    };
    let least = count(value, "/minAvailable").unwrap_or(0);
    place.floor = if least > 1 {
        Floor {
            replicas: least,
            cause: "minAvailable",
        }
    } else {
        Floor {
            replicas: 1,
            cause: "the frontend, which drops a model without workers",
        }
    };
    place.gpus = gpus(value, near).map(|gpus| gpus.saturating_mul(nodes.max(1)));
    place.leaving = leaving(value, target);
    place.owners.extend(planner(graph));
    if is_true(value, "/autoscaling/enabled") {
        let remedy = "it makes an autoscaler of its own: set `autoscaling.enabled` to false";
        place
            .owners
            .push(Owner::new("component", &component.name, remedy));
    }
    let status = ["components", "services"]
        .iter()
        .find_map(|field| graph.pointer(&format!("/status/{field}/{}", escaped(&component.name))));
    let updating = text(graph, "/status/rollingUpdate/phase");
    place.rolling_out = matches!(updating, Some("Pending" | "InProgress"))
        || status.is_some_and(|status| has_older(status, ""));
    place
}

/// Pods that lead a replica of several nodes: of Grove the clique `…-ldr`, of LWS worker 0.
fn leaders() -> Serving {
    Serving::Any(vec![
        Serving::Suffix("grove.io/podclique", "-ldr".to_owned()),
        Serving::Label(WORKER, "0"),
    ])
}

/// GPUs of one node: of the template's limits, or of v1alpha1's own.
fn gpus(component: &Value, near: &Near<'_>) -> Result<u32, GpusUnknown> {
    let stated = component.pointer("/resources/limits/gpu");
    match stated.map(crate::gpus::quantity_count) {
        Some(gpus) if gpus > 0 => Ok(gpus),
        _ => template_gpus(&component["podTemplate"], near),
    }
}

/// Dynamo's own planner, which sets the replicas of its graph.
fn planner(graph: &Value) -> Option<Owner> {
    let components = list(graph, "/spec/components").iter();
    let listed = components.map(|component| (name_of(component), component));
    let services = graph.pointer("/spec/services").and_then(Value::as_object);
    let mapped = services
        .into_iter()
        .flatten()
        .map(|(name, service)| (name.clone(), service));
    let mut planners = listed
        .chain(mapped)
        .filter(|(_, component)| component_type(component) == Some("planner"));
    let (name, _) = planners.next()?;
    let remedy = "take the planner out of the graph, or set spec.mode to Recommend";
    Some(Owner::new("Dynamo planner", &name, remedy))
}

fn name_of(component: &Value) -> String {
    text(component, "/name").unwrap_or_default().to_owned()
}

/// The operator gives a grace where the component states none.
fn leaving(component: &Value, target: &Target) -> Leaving {
    if let Some(template) = component.get("podTemplate") {
        return Leaving::of_part(template, target.side);
    }
    let Some(spec) = component.get("extraPodSpec") else {
        return Leaving::default();
    };
    let template = json!({ "spec": {
        "terminationGracePeriodSeconds": spec["terminationGracePeriodSeconds"],
        "containers": [spec["mainContainer"]],
    } });
    Leaving::of_part(&template, target.side)
}

#[cfg(test)]
mod tests;
