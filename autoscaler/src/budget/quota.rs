//! Room for GPUs in the ResourceQuotas of a namespace.
//!
//! The API server keeps quotas by itself: pods beyond one are refused, and replicas that were
//! requested for them wait. So a quota that cannot be read holds nothing back, and one with room
//! for less is a reason not to request the rest.

use k8s_openapi::{api::core::v1::ResourceQuota, apimachinery::pkg::api::resource::Quantity};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_systems::gpus::{count, is_whole};

use crate::answer::within_limit;

/// The quota with the least room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its name.
    pub quota: String,
    /// The resource, such as `requests.nvidia.com/gpu`.
    pub resource: String,
    /// GPUs that may exist.
    pub hard_gpus: u32,
    /// GPUs that may be added to those that exist.
    pub gpus: u32,
}

/// Reads the room in `namespace`; nothing where no quota counts GPUs.
pub async fn read(client: &Client, namespace: &str) -> Result<Option<Room>, kube::Error> {
    let api = Api::<ResourceQuota>::namespaced(client.clone(), namespace);
    let listed = within_limit(api.list(&ListParams::default())).await?;
    Ok(room(&listed.items))
}

/// The least room of `quotas`. Those with scopes count some pods alone and are passed over. Nothing
/// where they count several kinds of GPU, for it is not known here which one a role's pods have.
fn room(quotas: &[ResourceQuota]) -> Option<Room> {
    let all: Vec<Room> = quotas.iter().flat_map(rooms).collect();
    let least = all.iter().min_by_key(|room| room.gpus)?;
    let is_one_kind = all.iter().all(|room| room.resource == least.resource);
    is_one_kind.then(|| least.clone())
}

fn rooms(quota: &ResourceQuota) -> Vec<Room> {
    let Some(spec) = quota.spec.as_ref() else {
        return Vec::new();
    };
    if spec
        .scopes
        .as_ref()
        .is_some_and(|scopes| !scopes.is_empty())
        || spec.scope_selector.is_some()
    {
        return Vec::new();
    }
    let status = quota.status.as_ref();
    let used = |resource: &str| -> Option<u32> {
        let Quantity(text) = status?.used.as_ref()?.get(resource)?;
        Some(count(text))
    };
    let of = |(resource, Quantity(hard)): (&String, &Quantity)| {
        let is_gpu = resource.strip_prefix("requests.").is_some_and(is_whole);
        let hard_gpus = count(hard);
        // Until the quota's controller has counted, nothing is known of its use.
        let used = used(resource).filter(|_| is_gpu)?;
        Some(Room {
            quota: quota.name_any(),
            resource: resource.clone(),
            hard_gpus,
            gpus: hard_gpus.saturating_sub(used),
        })
    };
    spec.hard.iter().flatten().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn quota(name: &str, hard: &Value, used: &Value, scopes: &Value) -> ResourceQuota {
        serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "hard": hard, "scopes": scopes },
            "status": { "hard": hard, "used": used },
        }))
        .unwrap()
    }

    fn nvidia(name: &str, hard: &str, used: &str) -> ResourceQuota {
        let of = |gpus: &str| json!({ "requests.nvidia.com/gpu": gpus, "pods": "100" });
        quota(name, &of(hard), &of(used), &Value::Null)
    }

    #[rstest]
    #[case::none(vec![], None)]
    #[case::room(vec![nvidia("a", "8", "3")], Some(("a", 5)))]
    #[case::used_up(vec![nvidia("a", "8", "8")], Some(("a", 0)))]
    #[case::lowered_below_its_use(vec![nvidia("a", "4", "8")], Some(("a", 0)))]
    #[case::thousands(vec![nvidia("a", "1k", "999")], Some(("a", 1)))]
    #[case::the_tightest_counts(vec![nvidia("a", "8", "3"), nvidia("b", "6", "3")], Some(("b", 3)))]
    #[case::not_of_gpus(
        vec![quota("a", &json!({ "pods": "4" }), &json!({ "pods": "4" }), &Value::Null)], None,
    )]
    #[case::with_a_scope(
        vec![quota(
            "a", &json!({ "requests.nvidia.com/gpu": "1" }),
            &json!({ "requests.nvidia.com/gpu": "1" }), &json!(["BestEffort"]),
        )],
        None,
    )]
    #[case::not_counted_yet(
        vec![quota("a", &json!({ "requests.nvidia.com/gpu": "1" }), &json!({}), &Value::Null)], None,
    )]
    #[case::two_kinds_of_gpu(
        vec![nvidia("a", "8", "8"), quota(
            "b", &json!({ "requests.amd.com/gpu": "4" }), &json!({ "requests.amd.com/gpu": "0" }),
            &Value::Null,
        )],
        None,
    )]
    fn the_least_room_counts(
        #[case] quotas: Vec<ResourceQuota>,
        #[case] want: Option<(&str, u32)>,
    ) {
        let found = room(&quotas);
        let found = found.as_ref().map(|room| (room.quota.as_str(), room.gpus));
        assert_eq!(found, want);
    }
}
