//! Workloads of PDAutoscalers as the controller would find them: by pd-systems, from the objects
//! that the API server gives.
//!
//! The user's rights count here, not the controller's: what the user may not see is not judged.

use std::{collections::BTreeMap, sync::Arc};

use kube::{
    Client, Resource as _,
    api::{ApiResource, DynamicObject, GetParams, GroupVersionKind, ListParams},
    core::Request,
    discovery::pinned_kind,
};
use pd_api::v1alpha1::TargetReference;
use pd_core::Role;
use pd_runtime::kubernetes::error_message;
use pd_systems::target::{Near, Nearby, Target, Which};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

use super::judge::{Found, Workload};
use crate::cluster::values;

/// Lists of objects near targets, by address and selector. Many targets need the same, such as the
/// autoscalers of their namespace, and each is read once.
#[derive(Debug, Default)]
pub struct Lists(Mutex<BTreeMap<(String, String), List>>);

type List = Arc<OnceCell<Vec<Value>>>;

impl Lists {
    /// The objects in `namespace` that match `labels`. Without the right to see them there are
    /// none to see.
    async fn read(
        &self,
        client: &Client,
        namespace: &str,
        of: &ApiResource,
        labels: &str,
    ) -> Vec<Value> {
        let key = (
            DynamicObject::url_path(of, Some(namespace)),
            labels.to_owned(),
        );
        let list = Arc::clone(self.0.lock().await.entry(key).or_default());
        let params = ListParams::default().labels(labels);
        let read = async || {
            let found = values(client, namespace, of, &params).await;
            found.unwrap_or_default()
        };
        list.get_or_init(read).await.clone()
    }
}

/// The workload of `role` that `reference` names.
pub async fn workload(
    client: &Client,
    lists: &Lists,
    namespace: &str,
    reference: &TargetReference,
    role: Role,
) -> Workload {
    let target = reference.of_side(role);
    let reader = Reader {
        client,
        lists,
        namespace,
    };
    let found = match reader.found(&target).await {
        Ok(found) => Some(Ok(found)),
        Err(Fault::Target(why)) => Some(Err(why)),
        Err(Fault::Unseen) => None,
    };
    Workload {
        name: format!("{} `{}`", target.kind, target.name),
        found,
    }
}

/// Why a workload was not found.
enum Fault {
    /// It is the target's: why, with the remedy.
    Target(String),
    /// The user may not see it, or the cluster did not answer.
    Unseen,
}

struct Reader<'a> {
    client: &'a Client,
    lists: &'a Lists,
    namespace: &'a str,
}

impl Reader<'_> {
    async fn found(&self, target: &Target) -> Result<Found, Fault> {
        let system = pd_systems::system(&target.api_version, &target.kind);
        let resource = self.resource(target).await?;
        let Some(object) = self.get(&resource, &target.name, None).await? else {
            let (kind, name) = (&target.kind, &target.name);
            let why = format!(
                "{kind} `{name}` does not exist in namespace `{}`: create it, or correct target.name",
                self.namespace
            );
            return Err(Fault::Target(why));
        };
        let scale = if system.reads_scale() {
            self.get(&resource, &target.name, Some("scale")).await?
        } else {
            None
        };
        let mut related = Vec::new();
        for nearby in system.nearby(target, &object) {
            related.extend(self.related(&nearby).await);
        }
        let near = Near {
            object: &object,
            scale: scale.as_ref(),
            related: &related,
        };
        let place = system
            .resolve(target, &near)
            .map_err(|refusal| Fault::Target(refusal.to_string()))?;
        let owners = place.owners.iter().map(|owner| {
            let fact = owner.fact(&target.kind, &target.name);
            (fact, owner.remedy.clone())
        });
        Ok(Found {
            replicas: place.desired,
            gpus: place.gpus.as_ref().copied().map_err(ToString::to_string),
            owners: owners.collect(),
        })
    }

    /// The resource of the target's kind: known, or discovered.
    async fn resource(&self, target: &Target) -> Result<ApiResource, Fault> {
        let (api_version, kind) = (target.api_version.as_str(), target.kind.as_str());
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if let Some((_, known)) = pd_systems::find(api_version, kind) {
            return Ok(resource(group, version, kind, known.plural));
        }
        let discovered =
            pinned_kind(self.client, &GroupVersionKind::gvk(group, version, kind)).await;
        discovered.map(|(resource, _)| resource).map_err(|error| {
            Fault::Target(format!(
                "the cluster does not serve {kind} of {api_version}: install it, or correct target.apiVersion and target.kind ({})",
                error_message(&error)
            ))
        })
    }

    /// The object `name` or its subresource; nothing where there is none.
    async fn get(
        &self,
        of: &ApiResource,
        name: &str,
        subresource: Option<&str>,
    ) -> Result<Option<Value>, Fault> {
        let request = Request::new(DynamicObject::url_path(of, Some(self.namespace)));
        let request = match subresource {
            Some(subresource) => request.get_subresource(subresource, name),
            None => request.get(name, &GetParams::default()),
        };
        let request = request.map_err(|_| Fault::Unseen)?;
        match self.client.request::<Value>(request).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(_) => Err(Fault::Unseen),
        }
    }

    /// The objects near a target. Without the right to see them there are none to see.
    async fn related(&self, nearby: &Nearby) -> Vec<Value> {
        let of = resource(nearby.group, nearby.version, nearby.kind, nearby.plural);
        let labels = match &nearby.which {
            Which::Named(name) if name.is_empty() => return Vec::new(),
            Which::Named(name) => {
                let found = self.get(&of, name, None).await.unwrap_or_default();
                return found.into_iter().collect();
            }
            Which::Labelled(labels) => labels.as_str(),
            Which::All => "",
        };
        let (client, namespace) = (self.client, self.namespace);
        self.lists.read(client, namespace, &of, labels).await
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}
