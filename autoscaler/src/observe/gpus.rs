//! GPUs of one pod, read from its template.
//!
//! Extended resources of every vendor in use count, from limits (requests equal them for extended
//! resources). Containers add up, native sidecars among them; other init containers run before and
//! hold the same devices. Slices, shares and claims of dynamic resource allocation name no number
//! of GPUs, so a template with them has an unknown one, which is not zero: users who want GPUs
//! counted then state `gpusPerReplica`.

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};

/// Why the GPUs of a template are not known, as the end of a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpusUnknown {
    /// It asks for a resource that is no whole GPU.
    #[error("asks for `{0}`, which is no number of whole GPUs")]
    NotWhole(String),
    /// It claims devices by dynamic resource allocation.
    #[error("claims devices as `{0}`, which names no number of GPUs")]
    Claimed(String),
    /// It asks for no accelerator that is known.
    #[error("asks for no GPU")]
    NoneAsked,
}

/// GPUs that a pod of `spec` holds.
pub fn gpus_per_pod(spec: &PodSpec) -> Result<u32, GpusUnknown> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers: Vec<&Container> = spec.containers.iter().chain(sidecars).collect();
    let mut limits = containers.iter().flat_map(|container| limits(container));
    if let Some((resource, _)) = limits.find(|(resource, _)| is_part(resource)) {
        return Err(GpusUnknown::NotWhole(resource.clone()));
    }
    let whole: u32 = containers.into_iter().map(gpus_of_container).sum();
    let claim = spec.resource_claims.iter().flatten().next();
    match (whole, claim) {
        (0, Some(claim)) => Err(GpusUnknown::Claimed(claim.name.clone())),
        (0, None) => Err(GpusUnknown::NoneAsked),
        // Claims beside whole GPUs are of other devices.
        (whole, _) => Ok(whole),
    }
}

fn limits(container: &Container) -> impl Iterator<Item = (&String, &Quantity)> {
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    limits.into_iter().flatten()
}

fn gpus_of_container(container: &Container) -> u32 {
    limits(container)
        .filter(|(resource, _)| is_gpu(resource))
        .map(|(_, quantity)| count(quantity))
        .sum()
}

/// Whether `resource` is an accelerator that is handed out whole.
fn is_gpu(resource: &str) -> bool {
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
    name.contains('/') && !is_gpu(resource) && accelerators.iter().any(|word| name.contains(word))
}

/// Extended resources are whole numbers; `k` is what the API server makes of 1000.
fn count(quantity: &Quantity) -> u32 {
    let text = quantity.0.as_str();
    let (digits, factor) = text
        .strip_suffix('k')
        .map_or((text, 1), |digits| (digits, 1_000));
    digits.parse::<u32>().unwrap_or(0).saturating_mul(factor)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::{PodResourceClaim, ResourceRequirements};
    use rstest::rstest;

    use super::*;

    fn container(resource: &str, quantity: &str, restart_policy: Option<&str>) -> Container {
        Container {
            restart_policy: restart_policy.map(str::to_owned),
            resources: Some(ResourceRequirements {
                limits: Some(BTreeMap::from([(
                    resource.to_owned(),
                    Quantity(quantity.to_owned()),
                )])),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn pod(limits: &[(&str, &str)]) -> PodSpec {
        let containers = limits
            .iter()
            .map(|(resource, quantity)| container(resource, quantity, None));
        PodSpec {
            containers: containers.collect(),
            ..Default::default()
        }
    }

    #[rstest]
    #[case::nvidia("nvidia.com/gpu", "8", 8)]
    #[case::ascend("huawei.com/Ascend910", "4", 4)]
    #[case::intel("gpu.intel.com/i915", "2", 2)]
    #[case::thousands("nvidia.com/gpu", "1k", 1_000)]
    fn limits_of_accelerators_count(
        #[case] resource: &str,
        #[case] quantity: &str,
        #[case] want: u32,
    ) {
        assert_eq!(gpus_per_pod(&pod(&[(resource, quantity)])), Ok(want));
    }

    #[rstest]
    #[case::a_share("nvidia.com/gpu.shared")]
    #[case::a_slice("nvidia.com/mig-3g.40gb")]
    #[case::memory("nvidia.com/gpumem")]
    #[case::millicores("gpu.intel.com/millicores")]
    #[case::memory_of_another("aliyun.com/gpu-mem")]
    #[case::a_virtual_one("huawei.com/Ascend310P-2c")]
    #[case::of_an_unknown_vendor("example.com/gpu")]
    fn a_part_of_an_accelerator_is_no_number_of_them(#[case] resource: &str) {
        let unknown = Err(GpusUnknown::NotWhole(resource.to_owned()));
        assert_eq!(gpus_per_pod(&pod(&[(resource, "2")])), unknown);
        // Nor where whole ones stand beside it.
        let both = pod(&[("nvidia.com/gpu", "1"), (resource, "2")]);
        assert_eq!(gpus_per_pod(&both), unknown);
    }

    #[rstest]
    #[case::nothing(&[])]
    #[case::cores(&[("cpu", "8")])]
    #[case::a_network_card(&[("rdma/hca", "1")])]
    #[case::no_number(&[("nvidia.com/gpu", "1.5")])]
    fn no_accelerator_is_not_known_to_be_none(#[case] limits: &[(&str, &str)]) {
        assert_eq!(gpus_per_pod(&pod(limits)), Err(GpusUnknown::NoneAsked));
    }

    #[test]
    fn claims_name_no_number_unless_whole_gpus_stand_beside_them() {
        let claim = PodResourceClaim {
            name: "gpus".to_owned(),
            ..Default::default()
        };
        let mut spec = pod(&[("cpu", "8")]);
        spec.resource_claims = Some(vec![claim]);
        assert_eq!(
            gpus_per_pod(&spec),
            Err(GpusUnknown::Claimed("gpus".to_owned()))
        );
        spec.containers.push(container("nvidia.com/gpu", "4", None));
        assert_eq!(gpus_per_pod(&spec), Ok(4));
    }

    #[test]
    fn containers_and_sidecars_add_up_and_init_containers_do_not() {
        let gpu = |restart| container("nvidia.com/gpu", "1", restart);
        let spec = PodSpec {
            containers: vec![gpu(None), gpu(None)],
            init_containers: Some(vec![gpu(Some("Always")), gpu(None)]),
            ..Default::default()
        };
        assert_eq!(gpus_per_pod(&spec), Ok(3));
    }
}
