//! An imported PDAutoscaler as people read it: fields in the order of the documentation, defaults
//! left out, remarks as comments above.
//!
//! A field that is left out means the same: a test reads every manifest back.

use pd_api::v1alpha1::{
    AttainmentSpec, BehaviorSpec, MetricsSpec, MissingMetricsSpec, PDAutoscaler, RatioSpec,
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Value, json};

use super::{Imported, Remark};
use crate::{
    output::{self, OutputError},
    table::table,
};

/// Fields in the order in which people read them; others follow by name.
const ORDER: [&str; 27] = [
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "role",
    "annotations",
    "spec",
    "mode",
    "cron",
    "timeZone",
    "duration",
    "prefill",
    "decode",
    "target",
    "minReplicas",
    "maxReplicas",
    "gpusPerReplica",
    "objective",
    "ttft",
    "tpot",
    "ratio",
    "policy",
    "budget",
    "behavior",
    "scaleUp",
    "scaleDown",
];

/// A value whose fields are written in the order of [`ORDER`].
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let place = |key: &str| {
                    ORDER
                        .iter()
                        .position(|one| *one == key)
                        .unwrap_or(ORDER.len())
                };
                let mut keys: Vec<&String> = fields.keys().collect();
                keys.sort_by_key(|key| (place(key), (*key).clone()));
                let mut map = serializer.serialize_map(Some(keys.len()))?;
                for key in keys {
                    map.serialize_entry(key, &Self(&fields[key]))?;
                }
                map.end()
            }
            Value::Array(values) => serializer.collect_seq(values.iter().map(Ordered)),
            other => other.serialize(serializer),
        }
    }
}

/// The manifest without what the API fills in.
pub fn manifest(object: &PDAutoscaler) -> Result<Value, OutputError> {
    let mut value = serde_json::to_value(object)?;
    let behavior = BehaviorSpec::default();
    // Inner fields first: what is left empty goes with the outer.
    let defaults = [
        ("/spec/behavior", "scaleUp", json!(behavior.scale_up)),
        ("/spec/behavior", "scaleDown", json!(behavior.scale_down)),
        ("/spec/behavior", "lead", json!(behavior.lead)),
        ("/spec", "behavior", json!({})),
        (
            "/spec/objective",
            "attainment",
            json!(AttainmentSpec::default()),
        ),
        ("/spec", "ratio", json!(RatioSpec::default())),
        ("/spec", "metrics", json!(MetricsSpec::default())),
        (
            "/spec",
            "onMissingMetrics",
            json!(MissingMetricsSpec::default()),
        ),
    ];
    for (pointer, field, default) in defaults {
        let Some(fields) = value.pointer_mut(pointer).and_then(Value::as_object_mut) else {
            continue;
        };
        if fields.get(field) == Some(&default) {
            fields.remove(field);
        }
    }
    Ok(value)
}

/// The manifest as YAML, with the remarks above.
pub fn yaml(imported: &Imported) -> Result<String, OutputError> {
    let body = output::yaml(&Ordered(&manifest(&imported.object)?))?;
    Ok(format!("{}{body}", comments(imported)))
}

/// The manifest as JSON.
pub fn json_text(imported: &Imported) -> Result<String, OutputError> {
    output::json(&Ordered(&manifest(&imported.object)?))
}

/// The remarks as columns.
pub fn remarks(imported: &Imported) -> String {
    let rows: Vec<Vec<String>> = imported
        .remarks
        .iter()
        .map(|one| {
            vec![
                one.fate.as_str().to_owned(),
                one.field.clone(),
                one.value.clone(),
                one.remark.clone(),
            ]
        })
        .collect();
    table(&["Fate", "Field", "Value", "Remark"], &rows)
}

/// The remarks as comments, and the next steps.
pub fn comments(imported: &Imported) -> String {
    let mut lines = vec![format!("Imported from {}.", imported.from)];
    if !imported.remarks.is_empty() {
        lines.push("Not carried over as it was:".to_owned());
    }
    lines.extend(imported.remarks.iter().map(line));
    let name = imported.object.metadata.name.as_deref().unwrap_or_default();
    lines.push(format!(
        "Nothing is written in mode Recommend. Apply it, compare its decisions (kubectl pd explain {name}), then"
    ));
    lines.push(format!(
        "delete the other autoscaler and let this one act: kubectl pd resume {name} --to=Auto"
    ));
    format!("# {}\n", lines.join("\n# "))
}

fn line(remark: &Remark) -> String {
    let value: Vec<&str> = remark.value.split_whitespace().collect();
    format!(
        "- {}: {} `{}`: {}",
        remark.fate.as_str(),
        remark.field,
        value.join(" "),
        remark.remark
    )
}
