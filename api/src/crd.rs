//! The `CustomResourceDefinition`s, made from the types.
//!
//! kube derives a schema that the API server accepts; this module finishes it. Fields are absent
//! rather than null, formats are those that Kubernetes knows, numbers are whole, and descriptions
//! flow instead of breaking where the source line broke. The `crdgen` binary writes them into the
//! chart, which ships them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::v1alpha1::{GPUBudget, PDAutoscaler, PDAutoscalerCheckpoint};

/// The command that writes the CRD files of the chart.
pub const REGENERATE: &str = "cargo run -p pd-api --bin crdgen";

/// A resource of this API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `PDAutoscaler`.
    Autoscaler,
    /// `PDAutoscalerCheckpoint`.
    Checkpoint,
    /// `GPUBudget`.
    Budget,
}

/// A CRD that could not be made; only a defect of the types does this.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The derived schema is not what Kubernetes calls a CRD.
    #[error("the derived schema is no CustomResourceDefinition")]
    Schema(#[from] serde_json::Error),
    /// The CRD could not be written as YAML.
    #[error("the CustomResourceDefinition could not be written as YAML")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

impl Resource {
    /// Every resource.
    pub const ALL: [Self; 3] = [Self::Autoscaler, Self::Checkpoint, Self::Budget];

    /// Its name in paths of the API.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Autoscaler => "pdautoscalers",
            Self::Checkpoint => "pdautoscalercheckpoints",
            Self::Budget => "gpubudgets",
        }
    }

    /// The file of its types, from the root of the repository.
    const fn source(self) -> &'static str {
        match self {
            Self::Autoscaler => "api/src/v1alpha1.rs",
            Self::Checkpoint => "api/src/v1alpha1/checkpoint.rs",
            Self::Budget => "api/src/v1alpha1/gpu_budget.rs",
        }
    }

    /// Where the chart keeps its CRD, from the root of the repository.
    pub fn chart_path(self) -> String {
        format!("charts/pd-autoscaler/files/crds/{}.yaml", self.plural())
    }

    /// Its `CustomResourceDefinition`.
    pub fn crd(self) -> Result<CustomResourceDefinition, CrdError> {
        Ok(serde_json::from_value(self.finished()?)?)
    }

    /// The CRD as YAML, with a comment that says where it comes from.
    pub fn crd_yaml(self) -> Result<String, CrdError> {
        let body = serde_saphyr::to_string(&self.finished()?)?;
        let source = self.source();
        Ok(format!(
            "# Generated from {source} by `{REGENERATE}`; a test fails when it differs.\n{body}"
        ))
    }

    /// The derived CRD with its schema finished.
    fn finished(self) -> Result<Value, CrdError> {
        let mut crd = serde_json::to_value(match self {
            Self::Autoscaler => PDAutoscaler::crd(),
            Self::Checkpoint => PDAutoscalerCheckpoint::crd(),
            Self::Budget => GPUBudget::crd(),
        })?;
        finish(&mut crd);
        Ok(crd)
    }
}

/// Finishes a schema and everything below it.
fn finish(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(finish);
            if is_schema(fields) {
                finish_schema(fields);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(finish),
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|_| number.is_f64()).and_then(whole) {
                *number = whole.into();
            }
        }
        _ => {}
    }
}

/// A number as a whole one, when it is.
#[expect(
    clippy::cast_possible_truncation,
    reason = "bounds of the schema stay far below 2^52"
)]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 4e15).then_some(number as i64)
}

/// Whether an object is a schema rather than, say, the map of properties. One that takes values of
/// several types has no type.
fn is_schema(fields: &Map<String, Value>) -> bool {
    fields.get("type").is_some_and(Value::is_string)
        || fields
            .get("x-kubernetes-preserve-unknown-fields")
            .is_some_and(Value::is_boolean)
}

fn finish_schema(schema: &mut Map<String, Value>) {
    schema.remove("nullable");
    schema.remove("title");
    if let Some(Value::String(format)) = schema.get_mut("format") {
        match format.as_str() {
            "uint8" | "uint16" | "uint32" => "int32".clone_into(format),
            "uint64" => "int64".clone_into(format),
            _ => {}
        }
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = flowing(description);
    }
}

/// Text with its paragraphs kept and the line breaks inside them gone.
fn flowing(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}
