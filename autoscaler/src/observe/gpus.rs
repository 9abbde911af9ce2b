//! GPUs of one pod, read from its template.
//!
//! Extended resources of every vendor in use count, from limits (requests equal them for extended
//! resources). Containers add up, native sidecars among them; other init containers run before and
//! hold the same devices. DRA claims are not counted: they name no number in the template.

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};

/// GPUs that a pod of `spec` holds.
pub fn gpus_per_pod(spec: &PodSpec) -> u32 {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .map(gpus_of_container)
        .sum()
}

fn gpus_of_container(container: &Container) -> u32 {
    let limits = container
        .resources
        .as_ref()
        .and_then(|resources| resources.limits.as_ref());
    limits
        .into_iter()
        .flatten()
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
    ) || ["nvidia.com/mig-", "gpu.intel.com/", "huawei.com/Ascend"]
        .iter()
        .any(|prefix| resource.starts_with(prefix))
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

    use k8s_openapi::api::core::v1::ResourceRequirements;
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

    #[rstest]
    #[case::nvidia("nvidia.com/gpu", "8", 8)]
    #[case::mig("nvidia.com/mig-3g.40gb", "2", 2)]
    #[case::ascend("huawei.com/Ascend910", "4", 4)]
    #[case::thousands("nvidia.com/gpu", "1k", 1_000)]
    #[case::no_gpu("cpu", "8", 0)]
    #[case::no_number("nvidia.com/gpu", "1.5", 0)]
    fn limits_of_accelerators_count(
        #[case] resource: &str,
        #[case] quantity: &str,
        #[case] want: u32,
    ) {
        let spec = PodSpec {
            containers: vec![container(resource, quantity, None)],
            ..Default::default()
        };
        assert_eq!(gpus_per_pod(&spec), want);
    }

    #[test]
    fn containers_and_sidecars_add_up_and_init_containers_do_not() {
        let gpu = |restart| container("nvidia.com/gpu", "1", restart);
        let spec = PodSpec {
            containers: vec![gpu(None), gpu(None)],
            init_containers: Some(vec![gpu(Some("Always")), gpu(None)]),
            ..Default::default()
        };
        assert_eq!(gpus_per_pod(&spec), 3);
    }
}
