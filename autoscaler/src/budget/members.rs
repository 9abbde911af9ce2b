//! Who shares a budget: by the platform's object and the namespaces' labels, and nothing that a
//! tenant writes. Pure.

use std::collections::{BTreeMap, HashMap};

use kube::ResourceExt as _;
use pd_api::v1alpha1::{
    BudgetAccountStatus, BudgetMemberSpec, GPUBudgetSpec, Mode, PDAutoscaler, TargetReference,
};
use pd_core::{PerRole, Role, budget::ledger::Member};
use pd_signals::pods::TargetKind;
use pd_systems::target::Target;

/// A PDAutoscaler as far as it holds GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its workloads, as [`written`].
    pub targets: PerRole<String>,
    /// GPUs of a replica, where it states them.
    pub gpus: PerRole<Option<u32>>,
}

impl Service {
    /// The service of an object.
    pub fn of(object: &PDAutoscaler) -> Self {
        let role = |role: Role| object.spec.role(role);
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            targets: PerRole::from_fn(|r| written(&role(r).target)),
            gpus: PerRole::from_fn(|r| {
                role(r).gpus_per_replica.and_then(|g| u32::try_from(g).ok())
            }),
        }
    }

    /// The services that are held to a budget: those whose replicas are ours to request.
    pub fn scaled<'a>(objects: impl Iterator<Item = &'a PDAutoscaler>) -> Vec<Self> {
        let auto = objects.filter(|object| object.spec.mode == Mode::Auto);
        auto.map(Self::of).collect()
    }

    /// The service that an account in the ledger is about.
    pub fn of_account(account: &BudgetAccountStatus) -> Self {
        Self {
            namespace: account.namespace.clone(),
            name: account.name.clone(),
            targets: PerRole {
                prefill: account.prefill.clone(),
                decode: account.decode.clone(),
            },
            gpus: PerRole {
                prefill: None,
                decode: None,
            },
        }
    }

    /// Kind and name of the workload of `role`, if it is of Kubernetes' own kinds.
    pub fn own(&self, role: Role) -> Option<(&str, &str)> {
        let own = self.targets[role].split_once('/');
        own.filter(|_| !self.targets[role].contains(' '))
    }

    /// The workload of `role`, of any kind.
    pub fn target(&self, role: Role) -> Target {
        let text = &self.targets[role];
        let (object, api_version) = text.split_once(' ').unwrap_or((text, OWN_API_VERSION));
        let (api_version, inside) = match api_version.split_once(' ') {
            Some((api_version, inside)) => (api_version, Some(inside.to_owned())),
            None => (api_version, None),
        };
        let (kind, name) = object.split_once('/').unwrap_or_default();
        Target {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            role: inside,
            side: role,
        }
    }

    /// Unique in a ledger: an object that is pointed at other workloads is another account, for the
    /// ones before may still hold GPUs.
    pub fn key(&self) -> String {
        let Self {
            namespace,
            name,
            targets: PerRole { prefill, decode },
            gpus: _,
        } = self;
        format!("{namespace}/{name} {prefill} {decode}")
    }
}

/// `apiVersion` of Kubernetes' own workloads.
const OWN_API_VERSION: &str = "apps/v1";

/// A workload as the ledger has it: `Kind/name` for Kubernetes' own, followed by the `apiVersion`
/// and the role inside the object for others, with spaces between. None of these holds a space.
fn written(target: &TargetReference) -> String {
    let TargetReference {
        api_version,
        kind,
        name,
        role,
        ..
    } = target;
    if TargetKind::of(api_version, kind).is_ok() {
        return format!("{kind}/{name}");
    }
    let role = role.as_ref().map(|role| format!(" {role}"));
    format!("{kind}/{name} {api_version}{}", role.unwrap_or_default())
}

/// Labels of namespaces, by their names.
pub type Labels = HashMap<String, BTreeMap<String, String>>;

/// The members of one budget, and which of the services are whose.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    members: Vec<Row>,
    /// Index of the member of each service, by its key.
    of: BTreeMap<String, (usize, Service)>,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    priority: u32,
    floor_gpus: u32,
    most_gpus: u32,
}

impl Roster {
    /// The members among `services` by `spec`: each namespace of each entry is one.
    pub fn new(spec: &GPUBudgetSpec, services: &[Service], labels: &Labels) -> Self {
        let mut roster = Self::default();
        let mut known: HashMap<(usize, &str), usize> = HashMap::new();
        for service in services {
            let entry = spec
                .members
                .iter()
                .position(|entry| holds(entry, service, labels));
            let Some(index) = entry else { continue };
            let member = *known.entry((index, &service.namespace)).or_insert_with(|| {
                roster
                    .members
                    .push(Row::of(index, &spec.members[index], &service.namespace));
                roster.members.len() - 1
            });
            roster.of.insert(service.key(), (member, service.clone()));
        }
        roster
    }

    /// The member that `key` belongs to, if any.
    pub fn member(&self, key: &str) -> Option<usize> {
        self.of.get(key).map(|(member, _)| *member)
    }

    /// The service of `key`, if it is a member's.
    pub fn service(&self, key: &str) -> Option<&Service> {
        self.of.get(key).map(|(_, service)| service)
    }

    /// Every service that shares.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.of.values().map(|(_, service)| service)
    }

    /// The members as the ledger takes them.
    pub fn members(&self) -> Vec<Member<'_>> {
        self.members
            .iter()
            .map(|row| Member {
                name: &row.name,
                priority: row.priority,
                floor_gpus: row.floor_gpus,
                most_gpus: row.most_gpus,
            })
            .collect()
    }
}

impl Row {
    fn of(index: usize, entry: &BudgetMemberSpec, namespace: &str) -> Self {
        let gpus = |stated: i32| u32::try_from(stated).unwrap_or(0);
        Self {
            // The index keeps two entries for one namespace apart, and in their order.
            name: format!("{index:02} {namespace}"),
            priority: gpus(entry.priority).max(1),
            floor_gpus: gpus(entry.floor_gpus),
            most_gpus: entry.most_gpus.map_or(u32::MAX, gpus),
        }
    }
}

fn holds(entry: &BudgetMemberSpec, service: &Service, labels: &Labels) -> bool {
    let named = entry.names.is_empty() || entry.names.contains(&service.name);
    let inside = entry.namespace_labels.as_ref().map_or_else(
        || entry.namespaces.contains(&service.namespace),
        |wanted| {
            let found = labels.get(&service.namespace);
            !wanted.0.is_empty()
                && found.is_some_and(|found| wanted.0.iter().all(|(k, v)| found.get(k) == Some(v)))
        },
    );
    named && inside
}

#[cfg(test)]
mod tests {
    use pd_api::v1alpha1::NamespaceLabels;

    use super::*;

    fn service(namespace: &str, name: &str) -> Service {
        Service {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            targets: PerRole {
                prefill: format!("Deployment/{name}-prefill"),
                decode: format!("Deployment/{name}-decode"),
            },
            gpus: PerRole {
                prefill: None,
                decode: None,
            },
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "each call states its members"
    )]
    fn spec(members: Vec<BudgetMemberSpec>) -> GPUBudgetSpec {
        serde_json::from_value(serde_json::json!({ "gpus": 8, "members": members })).unwrap()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn each_namespace_of_an_entry_is_a_member_and_the_first_entry_counts() {
        let named = BudgetMemberSpec {
            namespaces: texts(&["chat"]),
            names: texts(&["prod"]),
            priority: 9,
            ..BudgetMemberSpec::default()
        };
        let all = BudgetMemberSpec {
            namespaces: texts(&["chat", "code"]),
            priority: 1,
            ..BudgetMemberSpec::default()
        };
        let services = [
            service("chat", "prod"),
            service("chat", "test"),
            service("chat", "try"),
            service("code", "prod"),
            service("else", "prod"),
        ];
        let roster = Roster::new(&spec(vec![named, all]), &services, &Labels::new());
        let of = |index: usize| roster.member(&services[index].key());
        assert_eq!(roster.members().len(), 3);
        assert_eq!(roster.members()[of(0).unwrap()].priority, 9);
        assert_eq!(of(1), of(2), "a namespace has one part, whatever it holds");
        assert_ne!(of(1), of(3));
        assert_eq!(of(4), None);
    }

    #[test]
    fn namespaces_join_by_labels_that_their_tenants_cannot_set() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let own = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            own.collect()
        };
        let entry = BudgetMemberSpec {
            namespace_labels: Some(NamespaceLabels(labels(&[("tier", "gold")]))),
            ..BudgetMemberSpec::default()
        };
        let services = [service("a", "x"), service("b", "x"), service("c", "x")];
        let known = Labels::from([
            ("a".to_owned(), labels(&[("tier", "gold"), ("team", "a")])),
            ("b".to_owned(), labels(&[("tier", "iron")])),
        ]);
        let roster = Roster::new(&spec(vec![entry]), &services, &known);
        let inside: Vec<_> = roster.services().map(|s| s.namespace.as_str()).collect();
        assert_eq!(
            inside,
            ["a"],
            "a namespace whose labels are not known is out"
        );
    }
}
