//! vLLM's production stack with its operator: a VLLMRuntime is a Deployment of the same name, whose
//! replicas the operator writes. Charts of the production stack make plain Deployments instead.

use serde_json::Value;

use crate::{
    build::scaled,
    gpus::{GpusUnknown, quantity_count},
    json::{has_older, is_true, name, text},
    kind::{Form, Kind, Roles, Victim},
    owner::Owner,
    place::{Place, PodSelector},
    refusal::Refusal,
    selector::Selector,
    system::System,
    target::{Near, Target},
};

/// vLLM's production stack.
#[derive(Clone, Copy, Debug)]
pub struct ProductionStack;

/// VLLMRuntimes.
pub const VLLM_RUNTIME: Kind = Kind {
    group: "production-stack.vllm.ai",
    version: "v1alpha1",
    kind: "VLLMRuntime",
    plural: "vllmruntimes",
    roles: Roles::One,
    form: Form::Scale,
    switch: "vllmRuntimes",
    replica: "1 pod",
    serving: "every pod",
    victim: Victim::DeletionCost,
    refused: "`autoscalingConfig.enabled`",
};

const REPLICAS: &str = "/spec/deploymentConfig/replicas";

impl System for ProductionStack {
    fn name(&self) -> &'static str {
        "vLLM production stack"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 1] = [VLLM_RUNTIME];
        &KINDS
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        let runtime = near.object;
        let mut place = scaled(&VLLM_RUNTIME, target, near, REPLICAS, &[])?;
        if is_true(runtime, "/spec/autoscalingConfig/enabled") {
            let remedy =
                "it makes a ScaledObject of its own: set `autoscalingConfig.enabled` to false";
            place
                .owners
                .push(Owner::new(VLLM_RUNTIME.kind, name(runtime), remedy));
        }
        let selector = text(runtime, "/status/selector").unwrap_or_default();
        // Written with the first status: without it no pod is known yet.
        let labels = Selector::parse(selector).map_err(|cause| Refusal::Selector {
            kind: target.kind.clone(),
            name: target.name.clone(),
            selector: selector.to_owned(),
            cause,
        })?;
        place.pods = PodSelector::labelled(labels);
        place.gpus = gpus(runtime);
        place.rolling_out = has_older(runtime, "/status");
        Ok(place)
    }
}

fn gpus(runtime: &Value) -> Result<u32, GpusUnknown> {
    let resources = &runtime["spec"]["deploymentConfig"]["resources"];
    let kind = text(resources, "/gpuType").unwrap_or("nvidia.com/gpu");
    match resources.get("gpu").map(quantity_count) {
        Some(gpus) if gpus > 0 => {
            let limits = serde_json::json!({ kind: gpus });
            let pod = serde_json::json!({ "containers": [{ "resources": { "limits": limits } }] });
            crate::gpus::of_pod(&pod, [].iter())
        }
        _ => Err(GpusUnknown::NoneAsked),
    }
}

#[cfg(test)]
mod tests;
