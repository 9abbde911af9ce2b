//! Reading a workload with what is near it, and its pods.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Resource as _,
    api::{ApiResource, DynamicObject, GetParams, GroupVersionKind, ListParams},
    core::Request,
    discovery::pinned_kind,
};
use pd_systems::{
    place::Place,
    pod::PodFacts,
    target::{Near, Nearby, Target, Which},
};
use serde_json::{Value, json};

use super::WorkloadError;
use crate::answer::within_limit;

/// How old lists may be that the API server gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// As old as its cache: a decision tolerates data of a second ago.
    Cached,
    /// As etcd has them now.
    Now,
}

/// Where the replicas of `target` are now.
pub async fn place(
    client: &Client,
    namespace: &str,
    target: &Target,
) -> Result<Place, WorkloadError> {
    let (place, _) = resolved(client, namespace, target, Age::Cached).await?;
    Ok(place)
}

/// Where the replicas of `target` are, by nothing older than this; and whether the object's
/// operator has seen its newest version, where it says.
pub async fn place_now(
    client: &Client,
    namespace: &str,
    target: &Target,
) -> Result<(Place, Option<bool>), WorkloadError> {
    resolved(client, namespace, target, Age::Now).await
}

async fn resolved(
    client: &Client,
    namespace: &str,
    target: &Target,
    age: Age,
) -> Result<(Place, Option<bool>), WorkloadError> {
    let system = pd_systems::system(&target.api_version, &target.kind);
    let reader = Reader {
        client,
        namespace,
        switch: pd_systems::switch(&target.api_version, &target.kind),
        age,
    };
    let resource = reader.resource(target).await?;
    let object = reader.object(target, &resource).await?;
    let scale = if system.reads_scale() {
        reader.get(&resource, &target.name, Some("scale")).await?
    } else {
        None
    };
    let mut related = Vec::new();
    for nearby in system.nearby(target, &object) {
        related.extend(reader.related(target, &nearby).await?);
    }
    let near = Near {
        object: &object,
        scale: scale.as_ref(),
        related: &related,
    };
    let mut place = system.resolve(target, &near)?;
    if place.object.plural.is_empty() {
        place.object.plural = resource.plural;
    }
    Ok((place, is_observed(&object)))
}

/// Whether the operator of `object` has seen its newest version; nothing where it does not say.
fn is_observed(object: &Value) -> Option<bool> {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let seen = number("/status/observedGeneration")?;
    Some(seen >= number("/metadata/generation").unwrap_or(0))
}

/// The pods that may be of `place`.
pub async fn pods(
    client: &Client,
    namespace: &str,
    place: &Place,
    age: Age,
) -> Result<Vec<PodFacts>, WorkloadError> {
    if place.pods.labels.is_nothing() {
        return Ok(Vec::new());
    }
    let reader = Reader {
        client,
        namespace,
        switch: "",
        age,
    };
    let pods = ApiResource::erase::<Pod>(&());
    let listed = reader.list(&pods, &place.pods.labels.to_string()).await?;
    Ok(listed.iter().map(PodFacts::of).collect())
}

/// All pods of the namespace, as etcd has them now.
pub async fn pods_of_namespace(
    client: &Client,
    namespace: &str,
) -> Result<Vec<PodFacts>, kube::Error> {
    let pods = ApiResource::erase::<Pod>(&());
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &pods);
    let listed = within_limit(api.list(&ListParams::default())).await?;
    let facts = |pod: &DynamicObject| {
        // Plain data: it cannot fail.
        let pod = serde_json::to_value(pod).unwrap_or_default();
        PodFacts::of(&pod)
    };
    Ok(listed.items.iter().map(facts).collect())
}

/// The resource of an object of `api_version`, `kind` and `plural`.
pub(super) fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// Reads JSON of one namespace.
struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
    switch: &'static str,
    age: Age,
}

impl Reader<'_> {
    /// The resource of the target's kind: known, or discovered.
    async fn resource(&self, target: &Target) -> Result<ApiResource, WorkloadError> {
        let (api_version, kind) = (&target.api_version, &target.kind);
        if let Some((_, known)) = pd_systems::find(api_version, kind) {
            return Ok(resource(api_version, kind, known.plural));
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        match within_limit(pinned_kind(self.client, &kind)).await {
            Ok((resource, _)) => Ok(resource),
            Err(error) if is_absent(&error) => Err(absent(target)),
            Err(error) => Err(self.unreadable(&kind.kind, error)),
        }
    }

    async fn object(&self, target: &Target, of: &ApiResource) -> Result<Value, WorkloadError> {
        if let Some(object) = self.get(of, &target.name, None).await? {
            return Ok(object);
        }
        // No object of the name, or no such kind at all.
        let url = DynamicObject::url_path(of, Some(self.namespace));
        let probe = Request::new(url).list(&ListParams::default().limit(1));
        let probe = probe.map_err(kube::Error::BuildRequest);
        let served = match probe {
            Ok(probe) => within_limit(self.client.request::<Value>(probe)).await,
            Err(error) => Err(error),
        };
        match served {
            Err(error) if is_absent(&error) => Err(absent(target)),
            _ => Err(WorkloadError::NotFound {
                kind: target.kind.clone(),
                name: target.name.clone(),
                namespace: self.namespace.to_owned(),
            }),
        }
    }

    /// The object `name`, or its subresource; nothing where there is none.
    async fn get(
        &self,
        of: &ApiResource,
        name: &str,
        subresource: Option<&str>,
    ) -> Result<Option<Value>, WorkloadError> {
        let request = Request::new(DynamicObject::url_path(of, Some(self.namespace)));
        let params = GetParams::default();
        let request = match subresource {
            Some(subresource) => request.get_subresource(subresource, name),
            None => request.get(name, &params),
        };
        let answer = match request.map_err(kube::Error::BuildRequest) {
            Ok(request) => within_limit(self.client.request::<Value>(request)).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(object) => Ok(Some(object)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.unreadable(&format!("{} `{name}`", of.kind), error)),
        }
    }

    /// Objects that match `labels`, each with its kind; none where the cluster has no such kind.
    async fn list(&self, of: &ApiResource, labels: &str) -> Result<Vec<Value>, WorkloadError> {
        let request = Request::new(DynamicObject::url_path(of, Some(self.namespace)));
        let params = ListParams::default().labels(labels);
        let params = match self.age {
            Age::Cached => params.match_any(),
            Age::Now => params,
        };
        let answer = match request.list(&params).map_err(kube::Error::BuildRequest) {
            Ok(request) => within_limit(self.client.request::<Value>(request)).await,
            Err(error) => Err(error),
        };
        let mut listed = match answer {
            Ok(listed) => listed,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(self.unreadable(&format!("{} objects", of.kind), error)),
        };
        let items = listed["items"].as_array_mut().map(std::mem::take);
        let mut items = items.unwrap_or_default();
        for item in &mut items {
            item["apiVersion"] = json!(of.api_version);
            item["kind"] = json!(of.kind);
        }
        Ok(items)
    }

    async fn related(&self, target: &Target, nearby: &Nearby) -> Result<Vec<Value>, WorkloadError> {
        let api_version = format!("{}/{}", nearby.group, nearby.version);
        let of = resource(&api_version, nearby.kind, nearby.plural);
        let found = match &nearby.which {
            Which::Named(name) if name.is_empty() => return Ok(Vec::new()),
            Which::Named(name) => {
                let found = self.get(&of, name, None).await;
                found.map(|found| found.into_iter().collect())
            }
            Which::Labelled(labels) => self.list(&of, labels).await,
            Which::All => self.list(&of, "").await,
        };
        match found {
            // Autoscalers of other systems do not scale this one's objects; without the right to
            // see them there are none to see.
            Err(WorkloadError::Unreadable { source, .. })
                if is_forbidden(&source) && !concerns(nearby.group, target.group()) =>
            {
                Ok(Vec::new())
            }
            found => found,
        }
    }

    fn unreadable(&self, what: &str, source: kube::Error) -> WorkloadError {
        WorkloadError::Unreadable {
            what: what.to_owned(),
            switch: self.switch,
            source,
        }
    }
}

/// Whether objects of group `of` decide over those of `group`: Kubernetes' own do over all, others
/// over those of their own project, which has the last two labels of the group's name.
fn concerns(of: &str, group: &str) -> bool {
    let project = |group: &str| -> String {
        let labels: Vec<&str> = group.rsplit('.').take(2).collect();
        labels.join(".")
    };
    !of.contains('.') || project(of) == project(group)
}

fn absent(target: &Target) -> WorkloadError {
    WorkloadError::KindAbsent {
        kind: target.kind.clone(),
        api_version: target.api_version.clone(),
    }
}

fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
        || matches!(error, kube::Error::Discovery(_))
}

/// Whether the API server will answer the same until somebody changes a right.
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::concerns;

    #[rstest]
    #[case::kubernetes("autoscaling", "leaderworkerset.x-k8s.io", true)]
    #[case::its_own("autoscaling.aibrix.ai", "orchestration.aibrix.ai", true)]
    #[case::its_own_of_kthena("workload.serving.volcano.sh", "workload.serving.volcano.sh", true)]
    #[case::anothers("autoscaling.aibrix.ai", "nvidia.com", false)]
    #[case::keda("keda.sh", "orchestration.aibrix.ai", false)]
    fn autoscalers_concern_their_own_project(
        #[case] of: &str,
        #[case] group: &str,
        #[case] want: bool,
    ) {
        assert_eq!(concerns(of, group), want);
    }
}
