//! From files to a pod's tolerations and nodes' taints, or a message with file, field, value and
//! remedy.
//!
//! Reads YAML and JSON, several documents and lists. It takes only what placement by taints needs
//! and checks that part strictly, for a typo that is skipped explains the wrong pod. The commonest
//! mistake is a number without quotes, so that has a remedy of its own. It refuses to judge values:
//! that is the API server's part, and comes later.

use std::{fs, io, path::Path};

use pd_tolerations::{Taint, Toleration};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Where kinds keep the pod spec.
const PODS: [(&str, &[&str]); 11] = [
    ("Pod", &[]),
    ("PodTemplate", &["template"]),
    ("Deployment", &["spec", "template"]),
    ("ReplicaSet", &["spec", "template"]),
    ("ReplicationController", &["spec", "template"]),
    ("StatefulSet", &["spec", "template"]),
    ("DaemonSet", &["spec", "template"]),
    ("Job", &["spec", "template"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template"]),
    ("PodSpec", &[]),
    ("", &[]),
];

const TOLERATION_FIELDS: [&str; 5] = ["key", "operator", "value", "effect", "tolerationSeconds"];
const TAINT_FIELDS: [&str; 4] = ["key", "value", "effect", "timeAdded"];

/// Why a file cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{file}: cannot be read ({source}): give the path of a YAML or JSON file")]
    Read {
        /// The file.
        file: String,
        /// The answer of the system.
        source: io::Error,
    },
    /// It is neither YAML nor JSON.
    #[error("{file}: is no valid {format}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// The kind that was read.
        format: &'static str,
        /// The fault, with line and column.
        message: String,
    },
    /// It holds something else than asked for.
    #[error("{file}: {message}")]
    Content {
        /// The file.
        file: String,
        /// The fault and the remedy.
        message: String,
    },
}

/// The parts of a pod that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its kind, or the workload's.
    pub kind: String,
    /// Its namespace, if the file says.
    pub namespace: Option<String>,
    /// Its name, or what names are made from; may be empty.
    pub name: String,
    /// Path of the list of tolerations.
    pub path: String,
    /// The list.
    pub tolerations: Vec<Toleration>,
    /// The annotation of a rewritten pod.
    pub annotation: Option<String>,
}

/// The parts of a node that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its taints.
    pub taints: Vec<Taint>,
}

/// The one pod of `file`.
pub fn pod(file: &Path) -> Result<Pod, FileError> {
    let objects = objects(file)?;
    let [object] = &objects[..] else {
        let message = format!(
            "holds {} objects: give a file with exactly one Pod or workload",
            objects.len()
        );
        return Err(content(file, message));
    };
    read_pod(object).map_err(|message| content(file, message))
}

/// All nodes of `files`, at least one.
pub fn nodes<P: AsRef<Path>>(files: &[P]) -> Result<Vec<Node>, FileError> {
    let mut nodes = Vec::new();
    for file in files.iter().map(AsRef::as_ref) {
        let objects = objects(file)?;
        if objects.is_empty() {
            return Err(content(
                file,
                "holds no object: give a file with a Node".to_owned(),
            ));
        }
        for object in objects {
            nodes.push(read_node(&object).map_err(|message| content(file, message))?);
        }
    }
    Ok(nodes)
}

fn content(file: &Path, message: String) -> FileError {
    FileError::Content {
        file: file.display().to_string(),
        message,
    }
}

/// The objects of a file: its documents, with lists taken apart.
fn objects(file: &Path) -> Result<Vec<Value>, FileError> {
    let name = || file.display().to_string();
    let text = fs::read_to_string(file).map_err(|source| FileError::Read {
        file: name(),
        source,
    })?;
    let syntax = |format, message: String| FileError::Syntax {
        file: name(),
        format,
        message,
    };
    let documents: Vec<Value> = if text.trim_start().starts_with('{') {
        let stream = serde_json::Deserializer::from_str(&text).into_iter();
        let all: Result<_, serde_json::Error> = stream.collect();
        all.map_err(|error| syntax("JSON", error.to_string()))?
    } else {
        let all = serde_saphyr::from_multiple(&text);
        all.map_err(|error| syntax("YAML", error.to_string()))?
    };
    let mut objects = Vec::new();
    for document in documents {
        let is_list = text_of(&document, "kind").is_some_and(|kind| kind.ends_with("List"));
        match document {
            Value::Null => {}
            Value::Object(mut list) if is_list => match list.remove("items") {
                Some(Value::Array(items)) => objects.extend(items),
                other => {
                    let message =
                        format!("items must be a list, and is {}", described(other.as_ref()));
                    return Err(content(file, message));
                }
            },
            Value::Object(object) => objects.push(Value::Object(object)),
            other => {
                let message = format!(
                    "holds {}: give Kubernetes objects, with kind, metadata and spec",
                    described(Some(&other))
                );
                return Err(content(file, message));
            }
        }
    }
    Ok(objects)
}

fn read_pod(object: &Value) -> Result<Pod, String> {
    let kind = text_of(object, "kind").unwrap_or_default();
    let Some((_, steps)) = PODS.iter().find(|(known, _)| *known == kind) else {
        return Err(format!(
            "kind `{kind}` has no pod that is known here: give a Pod, or a Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob, ReplicationController or PodTemplate"
        ));
    };
    let mut template = object;
    for step in *steps {
        template = template
            .get(*step)
            .ok_or_else(|| format!("{} is missing: a {kind} has its pod there", steps.join(".")))?;
    }
    let steps: Vec<&str> = steps.iter().copied().chain(["spec"]).collect();
    let path = steps.join(".");
    let spec = map(template.get("spec"), &path)?;
    let tolerations = format!("{path}.tolerations");
    let annotations = template
        .pointer("/metadata/annotations")
        .and_then(|all| all.get(pd_tolerations::rewrite::ANNOTATION));
    let annotation = match annotations {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => {
            return Err(wrong("metadata.annotations", "a text", Some(other)));
        }
    };
    let metadata = |field| object.pointer(field).and_then(Value::as_str);
    let name = metadata("/metadata/name").or_else(|| metadata("/metadata/generateName"));
    Ok(Pod {
        kind: if kind.is_empty() { "Pod" } else { kind }.to_owned(),
        namespace: metadata("/metadata/namespace").map(str::to_owned),
        name: name.unwrap_or_default().to_owned(),
        tolerations: list(spec.get("tolerations"), &tolerations, &TOLERATION_FIELDS)?,
        path: tolerations,
        annotation,
    })
}

fn read_node(object: &Value) -> Result<Node, String> {
    let kind = text_of(object, "kind").unwrap_or("Node");
    if kind != "Node" {
        return Err(format!(
            "kind `{kind}` is no Node: give Nodes with --node, the pod with --pod"
        ));
    }
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    // A node without taints may well come without a spec.
    let taints = match object.get("spec") {
        None | Some(Value::Null) => None,
        spec => map(spec, "spec")?.get("taints"),
    };
    Ok(Node {
        name: name.unwrap_or_default().to_owned(),
        taints: list(taints, "spec.taints", &TAINT_FIELDS)?,
    })
}

fn text_of<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

fn map<'a>(value: Option<&'a Value>, path: &str) -> Result<&'a Map<String, Value>, String> {
    value
        .and_then(Value::as_object)
        .ok_or_else(|| wrong(path, "an object", value))
}

/// A list of taints or tolerations, each field of the right type and known.
fn list<T: DeserializeOwned>(
    value: Option<&Value>,
    path: &str,
    fields: &[&str],
) -> Result<Vec<T>, String> {
    let entries = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(entries)) => entries,
        other => return Err(wrong(path, "a list", other)),
    };
    let read = |(index, entry): (usize, &Value)| {
        let path = format!("{path}[{index}]");
        for (field, value) in map(Some(entry), &path)? {
            check(field, value, &path, fields)?;
        }
        serde_json::from_value(entry.clone()).map_err(|error| format!("{path}: {error}"))
    };
    entries.iter().enumerate().map(read).collect()
}

fn check(field: &str, value: &Value, path: &str, fields: &[&str]) -> Result<(), String> {
    let path = format!("{path}.{field}");
    if !fields.contains(&field) {
        return Err(format!(
            "{path} is no field of Kubernetes: use one of {}",
            fields.join(", ")
        ));
    }
    let is_right = match field {
        "tolerationSeconds" => value.is_i64(),
        _ => value.is_string(),
    };
    if is_right || value.is_null() {
        return Ok(());
    }
    match value {
        _ if field == "tolerationSeconds" => {
            Err(wrong(&path, "a whole number of seconds", Some(value)))
        }
        Value::Number(_) | Value::Bool(_) => Err(format!(
            "{path} is {}, and Kubernetes takes only a text: write it in quotes, \"{value}\"",
            described(Some(value))
        )),
        _ => Err(wrong(&path, "a text", Some(value))),
    }
}

fn wrong(path: &str, right: &str, value: Option<&Value>) -> String {
    format!("{path} must be {right}, and is {}", described(value))
}

fn described(value: Option<&Value>) -> String {
    match value {
        None => "missing".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Bool(value)) => format!("the truth value `{value}`"),
        Some(Value::Number(value)) => format!("the number `{value}`"),
        Some(Value::String(value)) => format!("the text `{value}`"),
        Some(Value::Array(_)) => "a list".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
    }
}
