//! GPUs that one pod holds, read from its spec.
//!
//! Extended resources of every vendor in use count, from limits (requests equal them). Containers
//! add up, native sidecars among them; other init containers run before and hold the same devices.
//! Devices claimed by dynamic resource allocation count as their claim templates say. Slices (MIG),
//! shares (time slicing, MPS) and memory are parts of GPUs: how many whole ones they hold is not
//! known, which is not zero, and users who want GPUs counted state `gpusPerReplica`.

use serde_json::Value;

use crate::json::{list, name, text};

/// Why GPUs are not known, as the end of a sentence about the workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpusUnknown {
    /// It asks for a resource that is no whole GPU.
    #[error("asks for `{0}`, which is no number of whole GPUs")]
    NotWhole(String),
    /// It claims devices by dynamic resource allocation, and the claim names no number.
    #[error("claims devices as `{0}`, which names no number of GPUs")]
    Claimed(String),
    /// It asks for no accelerator that is known.
    #[error("asks for no GPU")]
    NoneAsked,
}

/// GPUs that a pod of `spec` holds. `templates` are the ResourceClaimTemplates that could be read.
pub fn of_pod<'a>(
    spec: &Value,
    templates: impl IntoIterator<Item = &'a Value>,
) -> Result<u32, GpusUnknown> {
    let limits = containers(spec)
        .filter_map(|container| container.pointer("/resources/limits")?.as_object())
        .flatten()
        .map(|(resource, quantity)| (resource.as_str(), quantity_count(quantity)));
    let whole = of_limits(limits)?;
    if whole > 0 {
        // Claims beside whole GPUs are of other devices.
        return Ok(whole);
    }
    let templates: Vec<&Value> = templates.into_iter().collect();
    let claims = list(spec, "/resourceClaims");
    if claims.is_empty() {
        return Err(GpusUnknown::NoneAsked);
    }
    let mut sum = 0_u32;
    for claim in claims {
        sum = sum.saturating_add(of_claim(claim, &templates)?);
    }
    if sum == 0 {
        return Err(GpusUnknown::NoneAsked);
    }
    Ok(sum)
}

/// GPUs by the limits of a pod's containers, each a resource and a count; 0 where none is of one.
pub fn of_limits<'a>(limits: impl IntoIterator<Item = (&'a str, u32)>) -> Result<u32, GpusUnknown> {
    let mut sum = 0_u32;
    for (resource, count) in limits {
        if is_part(resource) {
            return Err(GpusUnknown::NotWhole(resource.to_owned()));
        }
        if is_whole(resource) {
            sum = sum.saturating_add(count);
        }
    }
    Ok(sum)
}

/// GPUs of several parts that make up one replica, each counted a number of times.
pub fn sum(
    parts: impl IntoIterator<Item = (u32, Result<u32, GpusUnknown>)>,
) -> Result<u32, GpusUnknown> {
    let mut total = 0_u32;
    let mut none = None;
    for (times, gpus) in parts.into_iter().filter(|(times, _)| *times > 0) {
        match gpus {
            Ok(gpus) => total = total.saturating_add(gpus.saturating_mul(times)),
            // A leader without GPUs beside workers that have some is known to hold none.
            Err(GpusUnknown::NoneAsked) => none = Some(GpusUnknown::NoneAsked),
            Err(unknown) => return Err(unknown),
        }
    }
    match none {
        Some(none) if total == 0 => Err(none),
        None if total == 0 => Err(GpusUnknown::NoneAsked),
        _ => Ok(total),
    }
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let sidecars = list(spec, "/initContainers")
        .iter()
        .filter(|container| text(container, "/restartPolicy") == Some("Always"));
    list(spec, "/containers").iter().chain(sidecars)
}

/// GPUs of one entry of `resourceClaims`.
fn of_claim(claim: &Value, templates: &[&Value]) -> Result<u32, GpusUnknown> {
    let unknown = || GpusUnknown::Claimed(name_of_claim(claim));
    // A claim that is named itself is shared by all pods of the workload.
    let template = text(claim, "/resourceClaimTemplateName").ok_or_else(unknown)?;
    let template = templates
        .iter()
        .find(|known| name(known) == template)
        .ok_or_else(unknown)?;
    let mut sum = 0_u32;
    for request in list(template, "/spec/spec/devices/requests") {
        // resource.k8s.io/v1 has `exactly`, v1beta1 the same fields beside the name.
        let exactly = request.get("exactly").unwrap_or(request);
        let class = text(exactly, "/deviceClassName").ok_or_else(unknown)?;
        if class.contains("mig") {
            return Err(GpusUnknown::NotWhole(class.to_owned()));
        }
        if !["gpu", "tpu", "npu", "gaudi", "neuron"]
            .iter()
            .any(|word| class.contains(word))
        {
            continue;
        }
        if text(exactly, "/allocationMode") == Some("All") {
            return Err(unknown());
        }
        let count = exactly.get("count").map_or(1, quantity_count);
        sum = sum.saturating_add(count);
    }
    Ok(sum)
}

fn name_of_claim(claim: &Value) -> String {
    text(claim, "/name").unwrap_or_default().to_owned()
}

/// Whether `resource` is an accelerator that is handed out whole.
pub fn is_whole(resource: &str) -> bool {
    matches!(
        resource,
        "nvidia.com/gpu"
            | "amd.com/gpu"
            | "google.com/tpu"
            | "habana.ai/gaudi"
            | "aws.amazon.com/neuron"
            | "gpu.intel.com/i915"
            | "gpu.intel.com/xe"
    ) || resource
        .strip_prefix("huawei.com/Ascend")
        .is_some_and(|model| !model.contains('-'))
}

/// Whether `resource` is a part of an accelerator, such as a slice, a share or its memory, or one
/// of a vendor that is not known.
fn is_part(resource: &str) -> bool {
    let name = resource.to_ascii_lowercase();
    let accelerators = [
        "gpu", "/mig-", "cuda", "tpu", "npu", "gaudi", "neuron", "ascend",
    ];
    name.contains('/') && !is_whole(resource) && accelerators.iter().any(|word| name.contains(word))
}

/// The count that a quantity states; manifests may have a number instead of its text.
pub(crate) fn quantity_count(quantity: &Value) -> u32 {
    match quantity.as_u64() {
        Some(number) => u32::try_from(number).unwrap_or(u32::MAX),
        None => count(quantity.as_str().unwrap_or_default()),
    }
}

/// The count in the text of a quantity. Extended resources are whole numbers; `k` is what the API
/// server makes of 1000.
pub fn count(text: &str) -> u32 {
    let (digits, factor) = text
        .strip_suffix('k')
        .map_or((text, 1), |digits| (digits, 1_000));
    digits.parse::<u32>().unwrap_or(0).saturating_mul(factor)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "a literal reads better without a borrow"
    )]
    fn pod(limits: Value) -> Value {
        json!({ "containers": [{ "resources": { "limits": limits } }] })
    }

    fn gpus(spec: &Value) -> Result<u32, GpusUnknown> {
        of_pod(spec, [].iter())
    }

    #[rstest]
    #[case::nvidia("nvidia.com/gpu", json!("8"), 8)]
    #[case::a_number(
        "nvidia.com/gpu", json!(4), 4)]
    #[case::amd("amd.com/gpu", json!("8"), 8)]
    #[case::tpu("google.com/tpu", json!("4"), 4)]
    #[case::ascend("huawei.com/Ascend910", json!("4"), 4)]
    #[case::intel("gpu.intel.com/i915", json!("2"), 2)]
    #[case::thousands("nvidia.com/gpu", json!("1k"), 1_000)]
    fn limits_of_accelerators_count(
        #[case] resource: &str,
        #[case] quantity: Value,
        #[case] want: u32,
    ) {
        assert_eq!(gpus(&pod(json!({ resource: quantity }))), Ok(want));
    }

    #[rstest]
    #[case::time_sliced("nvidia.com/gpu.shared")]
    #[case::mig("nvidia.com/mig-3g.40gb")]
    #[case::memory("nvidia.com/gpumem")]
    #[case::millicores("gpu.intel.com/millicores")]
    #[case::a_virtual_one("huawei.com/Ascend310P-2c")]
    #[case::of_an_unknown_vendor("example.com/gpu")]
    fn a_part_of_an_accelerator_is_no_number_of_them(#[case] resource: &str) {
        let unknown = Err(GpusUnknown::NotWhole(resource.to_owned()));
        assert_eq!(gpus(&pod(json!({ resource: "2" }))), unknown);
        assert_eq!(
            gpus(&pod(json!({ "nvidia.com/gpu": "1", resource: "2" }))),
            unknown
        );
    }

    #[rstest]
    #[case::nothing(json!({}))]
    #[case::cores(json!({ "cpu": "8" }))]
    #[case::a_network_card(json!({ "rdma/hca": "1" }))]
    #[case::no_number(json!({ "nvidia.com/gpu": "1.5" }))]
    fn no_accelerator_is_not_known_to_be_none(#[case] limits: Value) {
        assert_eq!(gpus(&pod(limits)), Err(GpusUnknown::NoneAsked));
    }

    #[test]
    fn containers_and_sidecars_add_up_and_init_containers_do_not() {
        let gpu = json!({ "resources": { "limits": { "nvidia.com/gpu": "1" } } });
        let mut sidecar = gpu.clone();
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({ "containers": [gpu, gpu], "initContainers": [sidecar, gpu] });
        assert_eq!(gpus(&spec), Ok(3));
    }

    #[rstest]
    #[case::v1(json!({ "exactly": { "deviceClassName": "gpu.nvidia.com", "count": 4 } }), Ok(4))]
    #[case::v1beta1(json!({ "deviceClassName": "gpu.nvidia.com", "count": 2 }), Ok(2))]
    #[case::one(json!({ "exactly": { "deviceClassName": "gpu.amd.com" } }), Ok(1))]
    #[case::all(
        json!({ "exactly": { "deviceClassName": "gpu.nvidia.com", "allocationMode": "All" } }),
        Err(GpusUnknown::Claimed("gpus".into())))]
    #[case::mig(
        json!({ "exactly": { "deviceClassName": "mig.nvidia.com" } }),
        Err(GpusUnknown::NotWhole("mig.nvidia.com".into())))]
    #[case::a_network_card(
        json!({ "exactly": { "deviceClassName": "dranet" } }), Err(GpusUnknown::NoneAsked))]
    #[case::the_first_available(
        json!({ "firstAvailable": [] }), Err(GpusUnknown::Claimed("gpus".into())))]
    fn claims_count_as_their_template_says(
        #[case] request: Value,
        #[case] want: Result<u32, GpusUnknown>,
    ) {
        let template = json!({ "metadata": { "name": "two" }, "spec": { "spec": { "devices": {
            "requests": [request] } } } });
        let spec = json!({ "resourceClaims": [
            { "name": "gpus", "resourceClaimTemplateName": "two" }] });
        assert_eq!(of_pod(&spec, [template].iter()), want);
        // Without its template nothing is known.
        assert_eq!(gpus(&spec), Err(GpusUnknown::Claimed("gpus".into())));
    }

    #[test]
    fn parts_of_a_replica_add_up_and_one_unknown_part_makes_it_unknown() {
        let none = || Err(GpusUnknown::NoneAsked);
        assert_eq!(sum([(1, Ok(8)), (3, Ok(4))]), Ok(20));
        assert_eq!(sum([(1, none()), (3, Ok(4))]), Ok(12));
        assert_eq!(sum([(1, none()), (3, none())]), none());
        assert_eq!(
            sum([(1, Ok(8)), (0, Err(GpusUnknown::Claimed("x".into())))]),
            Ok(8)
        );
        let part = || Err(GpusUnknown::NotWhole("x".into()));
        assert_eq!(sum([(1, Ok(8)), (1, part())]), part());
    }
}
