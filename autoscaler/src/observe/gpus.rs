//! GPUs of one pod, read from its template.
//!
//! Extended resources of every vendor in use count, from limits (requests equal them for extended
//! resources). Containers add up, native sidecars among them; other init containers run before and
//! hold the same devices. Slices, shares and claims of dynamic resource allocation name no number
//! of GPUs, so a template with them has an unknown one, which is not zero: users who want GPUs
//! counted then state `gpusPerReplica`.

use k8s_openapi::api::core::v1::{Container, PodSpec};
pub use pd_systems::gpus::GpusUnknown;
use pd_systems::gpus::{count, of_limits};

/// GPUs that a pod of `spec` holds.
pub fn gpus_per_pod(spec: &PodSpec) -> Result<u32, GpusUnknown> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let whole = of_limits(spec.containers.iter().chain(sidecars).flat_map(limits))?;
    let claim = spec.resource_claims.iter().flatten().next();
    match (whole, claim) {
        (0, Some(claim)) => Err(GpusUnknown::Claimed(claim.name.clone())),
        (0, None) => Err(GpusUnknown::NoneAsked),
        // Claims beside whole GPUs are of other devices.
        (whole, _) => Ok(whole),
    }
}

fn limits(container: &Container) -> impl Iterator<Item = (&str, u32)> {
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let limits = limits.into_iter().flatten();
    limits.map(|(resource, quantity)| (resource.as_str(), count(&quantity.0)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::{
        api::core::v1::{PodResourceClaim, ResourceRequirements},
        apimachinery::pkg::api::resource::Quantity,
    };
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
