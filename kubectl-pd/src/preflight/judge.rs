//! The checks that follow from what was seen of a cluster. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use pd_api::{
    ConditionType, condition,
    v1alpha1::{GROUP, Mode, PDAutoscaler},
    wording::known,
};
use pd_core::{PerRole, Role};

use super::{Check, Topic, rights::Right, series::Series};
use crate::{
    controller::{Controller, WithLease, holder},
    why_not::block::block,
};

/// The version that this plugin and its controller speak.
pub const VERSION: &str = "v1alpha1";

/// Everything that was seen. An `Err` says why it could not be.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Resources that the API server serves of our group, in [`VERSION`]; nothing where it does not
    /// serve the version.
    pub served: Seen<Option<BTreeSet<String>>>,
    /// Every controller with the Lease that it names, where it could be read.
    pub controllers: Seen<Vec<WithLease>>,
    /// Rights of the user, and whether they are there.
    pub own_rights: Rights,
    /// Rights of the controllers' service accounts, by the account.
    pub controller_rights: Vec<(String, Rights)>,
    /// The Prometheus servers that were asked, by address.
    pub prometheus: Vec<(String, Seen<Series>)>,
    /// The PDAutoscalers in the namespaces that were asked for.
    pub objects: Seen<Vec<PDAutoscaler>>,
    /// Their workloads: namespace and name of the object, and what was found of each role.
    pub workloads: Vec<(String, String, PerRole<Workload>)>,
}

/// Rights, and whether they are there.
pub type Rights = Vec<(Right, Seen<bool>)>;

/// Something that was looked for, or why it could not be seen.
pub type Seen<T> = Result<T, String>;

/// A workload as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Kind and name.
    pub name: String,
    /// Whether it can be scaled: replicas, or why not with the remedy.
    pub found: Option<Seen<Found>>,
}

/// A workload that can be scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Replicas requested.
    pub replicas: u32,
    /// GPUs of one replica, or why they are not known.
    pub gpus: Seen<u32>,
    /// Who else sets the replicas: a sentence about each, and the remedy.
    pub owners: Vec<(String, String)>,
}

/// Every check, in the order of the subjects.
pub fn judge(facts: &Facts, now: Timestamp) -> Vec<Check> {
    let mut checks = crds(&facts.served);
    checks.extend(controllers(facts, now));
    checks.extend(rights(Topic::YourRights, "you", &facts.own_rights));
    for (account, found) in &facts.controller_rights {
        checks.extend(rights(Topic::ControllerRights, account, found));
    }
    checks.extend(prometheus(facts));
    if let Err(why) = &facts.objects {
        let remedy = "allow the account to list pdautoscalers";
        checks.push(Check::warning(Topic::Target, "pdautoscalers", why, remedy));
    }
    for (namespace, name, workloads) in &facts.workloads {
        checks.extend(targets(facts, namespace, name, workloads));
    }
    checks
}

fn crds(served: &Seen<Option<BTreeSet<String>>>) -> Vec<Check> {
    let remedy = "install the CRDs of this version: helm upgrade with crds.enabled=true";
    let served = match served {
        Ok(Some(served)) => served,
        Ok(None) => {
            let message = format!("the API server does not serve {GROUP}/{VERSION}");
            return vec![Check::failure(Topic::Crd, GROUP, message, remedy)];
        }
        Err(why) => {
            let remedy = "allow the account to read the API server's list of resources";
            return vec![Check::warning(Topic::Crd, GROUP, why, remedy)];
        }
    };
    let check = |resource: &pd_api::Resource| {
        let plural = resource.plural();
        if served.contains(plural) {
            return Check::ok(Topic::Crd, plural, format!("served in {VERSION}"));
        }
        let message = format!("not served in {VERSION}");
        Check::failure(Topic::Crd, plural, message, remedy)
    };
    pd_api::Resource::ALL.iter().map(check).collect()
}

fn controllers(facts: &Facts, now: Timestamp) -> Vec<Check> {
    let found = match &facts.controllers {
        Ok(found) => found,
        Err(why) => {
            let remedy =
                "allow the account to list deployments in all namespaces, or ask the operator";
            return vec![Check::warning(
                Topic::Controller,
                "pd-autoscaler",
                why,
                remedy,
            )];
        }
    };
    if found.is_empty() {
        let message = "no Deployment of the chart is there";
        let remedy = "helm install pd-autoscaler charts/pd-autoscaler --namespace pd-system --create-namespace";
        return vec![Check::failure(
            Topic::Controller,
            "pd-autoscaler",
            message,
            remedy,
        )];
    }
    let mut checks: Vec<Check> = found
        .iter()
        .map(|(controller, _)| pods(controller))
        .collect();
    let unhandled = facts.objects.iter().flatten().filter(|object| {
        !found
            .iter()
            .any(|(controller, _)| controller.handles(object))
    });
    checks.extend(unhandled.map(|object| {
        let class = object.spec.controller_class.as_deref().unwrap_or("none");
        let message = format!("no controller handles its namespace and class ({class})");
        let remedy = "set spec.controllerClass to the controllerClass of the chart, or its watchNamespace to the namespace";
        Check::failure(Topic::Controller, place(object), message, remedy)
    }));
    checks.extend(
        found
            .iter()
            .filter_map(|(controller, seen)| lease(controller, seen, now)),
    );
    checks
}

fn pods(controller: &Controller) -> Check {
    let (ready, wanted, name) = (controller.ready, controller.wanted, controller.named());
    let message = format!("{ready} of {wanted} pods are ready");
    let remedy = format!(
        "kubectl --namespace {} describe deployment {}",
        controller.namespace, controller.name
    );
    match ready {
        0 => Check::failure(Topic::Controller, name, message, remedy),
        ready if ready < wanted => Check::warning(Topic::Controller, name, message, remedy),
        _ => Check::ok(Topic::Controller, name, message),
    }
}

fn lease(controller: &Controller, seen: &Seen<Option<Lease>>, now: Timestamp) -> Option<Check> {
    let (namespace, name) = controller.lease.as_ref()?;
    let subject = format!("{namespace}/{name}");
    Some(match seen {
        Err(why) => {
            let remedy = "allow the account to get leases there, or ask the operator";
            Check::warning(Topic::Lease, subject, why, remedy)
        }
        Ok(lease) => match holder(lease.as_ref(), now) {
            Ok(holder) => Check::ok(Topic::Lease, subject, format!("held by {holder}")),
            Err(why) => {
                let remedy = format!(
                    "kubectl --namespace {} logs deployment/{}",
                    controller.namespace, controller.name
                );
                Check::failure(Topic::Lease, subject, why, remedy)
            }
        },
    })
}

/// One line for all rights that are there, and one for each that is not.
fn rights(topic: Topic, who: &str, rights: &[(Right, Seen<bool>)]) -> Vec<Check> {
    let mut checks = Vec::new();
    let (mut there, mut unseen) = (0, None);
    for (right, answer) in rights {
        match answer {
            Ok(true) => there += 1,
            Ok(false) => checks.push(missing(topic, who, right)),
            Err(why) => unseen = Some(why),
        }
    }
    if let Some(why) = unseen {
        let remedy = match topic {
            Topic::ControllerRights => {
                "allow the account to create subjectaccessreviews, or ask the operator"
            }
            _ => "allow the account to create selfsubjectaccessreviews",
        };
        checks.push(Check::warning(topic, who, why, remedy));
    }
    if there > 0 {
        checks.insert(
            0,
            Check::ok(
                topic,
                who,
                format!("{there} of {} rights are there", rights.len()),
            ),
        );
    }
    checks
}

fn missing(topic: Topic, who: &str, right: &Right) -> Check {
    let place = match right.namespace.as_str() {
        "" => "in all namespaces".to_owned(),
        namespace => format!("in namespace {namespace}"),
    };
    let message = format!("may not {} {place}", right.named());
    if topic == Topic::YourRights {
        let remedy = format!("bind a role that has it, or do without {}", right.purpose);
        return Check::warning(topic, who, message, remedy);
    }
    let message = format!("{message}, needed to {}", right.purpose);
    let remedy = match right.switch {
        "" => "upgrade the chart with rbac.create=true, or grant it as its README lists".to_owned(),
        switch => format!("helm upgrade with targets.{switch}.enabled=true"),
    };
    Check::failure(topic, who, message, remedy)
}

fn prometheus(facts: &Facts) -> Vec<Check> {
    let topic = Topic::Prometheus;
    let mut checks = Vec::new();
    if facts.prometheus.is_empty() {
        let message = "no server is known: no controller shows --prometheus-url";
        let remedy = "set prometheus.url of the chart, or give --prometheus-url";
        checks.push(Check::warning(topic, "server", message, remedy));
    }
    for (address, seen) in &facts.prometheus {
        checks.push(match seen {
            Err(why) => {
                let remedy = "give --prometheus-url of an address that is reached from here, or allow the account to get services/proxy there";
                Check::warning(topic, address, why, remedy)
            }
            Ok(series) if series.is_empty() => {
                let remedy = "let it scrape the workers: workerMonitors of the chart, or a scrape job; docs/signals.md lists the metrics";
                Check::failure(topic, address, "it has no series of any engine", remedy)
            }
            Ok(series) if series.pods.is_empty() => {
                let remedy = "label the series in the scrape job, or set prometheus.namespaceLabel and podLabel of the chart to the labels they have";
                let message = "engines' series have no labels of namespace and pod";
                Check::failure(topic, address, message, remedy)
            }
            Ok(series) => {
                let pods: usize = series.pods.values().map(BTreeSet::len).sum();
                let message = format!("engines' series of {pods} pods in {} namespaces", series.pods.len());
                Check::ok(topic, address, message)
            }
        });
    }
    let objects = facts.objects.iter().flatten();
    checks.extend(objects.map(|object| of_object(object, &facts.prometheus)));
    checks
}

/// Whether the series of one object are there: the controller says, else the servers do.
fn of_object(object: &PDAutoscaler, servers: &[(String, Seen<Series>)]) -> Check {
    let (topic, subject) = (Topic::Prometheus, place(object));
    let status = object.status.clone().unwrap_or_default();
    let available = condition::get(&status.conditions, ConditionType::MetricsAvailable);
    match available.map(|condition| (condition.status.as_str(), condition)) {
        Some(("True", condition)) => {
            let engine = status
                .engine
                .map_or_else(String::new, |engine| format!(" (engine {engine})"));
            return Check::ok(topic, subject, format!("{}{engine}", condition.message));
        }
        Some(("False", condition)) => {
            let block = known(&condition.reason).and_then(block);
            let remedy = block.map_or("do what the message says", |block| block.remedy);
            let remedy = remedy.replace("{name}", &object.name_any());
            let message = format!("{}: {}", condition.reason, condition.message);
            return Check::failure(topic, subject, message, remedy);
        }
        _ => {}
    }
    let namespace = object.namespace().unwrap_or_default();
    let seen: Vec<&Series> = servers
        .iter()
        .filter_map(|(_, seen)| seen.as_ref().ok())
        .collect();
    let pods = seen
        .iter()
        .filter_map(|series| series.pods.get(&namespace))
        .map(BTreeSet::len)
        .max();
    match pods {
        Some(pods) => Check::ok(
            topic,
            subject,
            format!("engines' series of {pods} pods in its namespace"),
        ),
        None if seen.is_empty() => {
            let message = "the controller has not said yet whether its metrics are there";
            Check::warning(
                topic,
                subject,
                message,
                "wait for the first decision, or give --prometheus-url",
            )
        }
        None => {
            let remedy =
                "let Prometheus scrape the workers of the namespace: workerMonitors of the chart";
            Check::failure(
                topic,
                subject,
                "no engine's series in its namespace",
                remedy,
            )
        }
    }
}

fn targets(
    facts: &Facts,
    namespace: &str,
    name: &str,
    workloads: &PerRole<Workload>,
) -> Vec<Check> {
    let mut objects = facts.objects.iter().flatten();
    let object = objects.find(|object| {
        object.namespace().as_deref() == Some(namespace) && object.name_any() == name
    });
    let acts = object.is_none_or(|object| object.spec.mode == Mode::Auto);
    let mut checks = Vec::new();
    for role in Role::ALL {
        let workload = &workloads[role];
        let subject = format!("{namespace}/{name} {role}");
        match &workload.found {
            None => {}
            Some(Err(why)) => {
                let remedy = "do what the message says; docs/systems.md lists what can be scaled";
                checks.push(Check::failure(Topic::Target, subject, why, remedy));
            }
            Some(Ok(found)) => checks.extend(scaled(&subject, workload, found, acts)),
        }
    }
    checks
}

fn scaled(subject: &str, workload: &Workload, found: &Found, acts: bool) -> Vec<Check> {
    let gpus = match &found.gpus {
        Ok(1) => "1 GPU each".to_owned(),
        Ok(gpus) => format!("{gpus} GPUs each"),
        Err(_) => "GPUs not known".to_owned(),
    };
    let message = format!("{} has {} replicas, {gpus}", workload.name, found.replicas);
    let mut checks = vec![Check::ok(Topic::Target, subject, message)];
    if let Err(why) = &found.gpus {
        let remedy = "state gpusPerReplica of the role, if a budget shall count them";
        checks.push(Check::warning(Topic::Target, subject, why, remedy));
    }
    checks.extend(found.owners.iter().map(|(message, remedy)| {
        if acts {
            Check::failure(Topic::Target, subject, message, remedy)
        } else {
            let remedy = format!("before mode Auto: {remedy}");
            Check::warning(Topic::Target, subject, message, remedy)
        }
    }));
    checks
}

fn place(object: &PDAutoscaler) -> String {
    format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}

/// The kinds of targets of `objects`, each with its version.
pub fn kinds<'a>(
    objects: impl IntoIterator<Item = &'a PDAutoscaler>,
) -> BTreeSet<(String, String)> {
    let targets = objects
        .into_iter()
        .flat_map(|object| Role::ALL.map(|role| &object.spec.role(role).target));
    targets
        .map(|target| (target.api_version.clone(), target.kind.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
