//! Which of several objects is the prefill role's, and which the decode role's.
//!
//! A name that is given counts. Without one it is the only object whose name, or whose target's,
//! speaks of the role: people call them so. Nothing is guessed where two do.

use pd_core::{PerRole, Role};
use serde_json::Value;

use super::{ImportError, role::role_in, text_error};

/// The knowledge of a caller about both roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Names of the objects, where they are given.
    pub names: PerRole<Option<String>>,
    /// Roles whose workload is named itself, so that they have no object.
    pub without: PerRole<bool>,
}

/// The documents of a text, each a YAML or JSON object; empty ones are left out.
pub fn documents(what: &str, text: &str) -> Result<Vec<Value>, ImportError> {
    let read: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| text_error(what, error))?;
    let mut found = Vec::new();
    for document in read {
        match document["items"].as_array() {
            // A List, as `kubectl get -o yaml` gives it.
            Some(items)
                if document["kind"]
                    .as_str()
                    .is_some_and(|kind| kind.ends_with("List")) =>
            {
                found.extend(items.iter().cloned());
            }
            _ if document.is_null() => {}
            _ => found.push(document),
        }
    }
    Ok(found)
}

/// The objects of `kind` for both roles; nothing for a role without.
pub fn select(
    kind: &'static str,
    objects: &[Value],
    named: &Named,
) -> Result<PerRole<Option<Value>>, ImportError> {
    let of_kind: Vec<&Value> = objects.iter().filter(|one| one["kind"] == kind).collect();
    let one = |role: Role| -> Result<Option<Value>, ImportError> {
        if named.without[role] {
            return Ok(None);
        }
        one_of(kind, &of_kind, role, named.names[role].as_deref()).map(|found| Some(found.clone()))
    };
    Ok(PerRole {
        prefill: one(Role::Prefill)?,
        decode: one(Role::Decode)?,
    })
}

fn one_of<'a>(
    kind: &str,
    objects: &[&'a Value],
    role: Role,
    name: Option<&str>,
) -> Result<&'a Value, ImportError> {
    let names: Vec<&str> = objects.iter().map(|one| name_of(one)).collect();
    let listed = if names.is_empty() {
        "there is none".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    let missing = |remedy: String| ImportError::Role { role, remedy };
    if let Some(name) = name {
        let found = objects.iter().find(|one| name_of(one) == name);
        return found.copied().ok_or_else(|| {
            missing(format!(
                "{kind} `{name}` is not there, {listed}: correct --{role}"
            ))
        });
    }
    let speaks = |one: &&&Value| {
        let target = one["spec"]["scaleTargetRef"]["name"]
            .as_str()
            .unwrap_or_default();
        role_in(name_of(one)).or_else(|| role_in(target)) == Some(role)
    };
    let speaking: Vec<&&Value> = objects.iter().filter(speaks).collect();
    match speaking.as_slice() {
        [only] => Ok(only),
        [] => Err(missing(format!(
            "no {kind} speaks of it by its name, {listed}: give --{role}=NAME, or --{role}-target=KIND/NAME for a workload that has none"
        ))),
        several => {
            let names: Vec<&str> = several.iter().map(|one| name_of(one)).collect();
            Err(missing(format!(
                "{} of kind {kind} speak of it: give --{role}=NAME",
                names.join(" and ")
            )))
        }
    }
}

/// Refuses an object that is not of `kind` in some version of `group`.
pub fn of_kind(
    object: &Value,
    group: &str,
    kind: &'static str,
    remedy: &'static str,
) -> Result<(), ImportError> {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    if object["kind"] == kind && pd_systems::target::group(version) == group {
        return Ok(());
    }
    let found = object["kind"].as_str().unwrap_or("a text");
    Err(ImportError::Kind {
        found: format!("{found} of {version}"),
        wanted: kind,
        remedy,
    })
}

/// The name of an object.
pub fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The namespace of an object, where it says.
pub fn namespace_of(object: &Value) -> Option<String> {
    object["metadata"]["namespace"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KIND: &str = "HorizontalPodAutoscaler";

    fn hpa(name: &str, target: &str) -> Value {
        json!({ "kind": KIND, "metadata": { "name": name }, "spec": { "scaleTargetRef": { "name": target } } })
    }

    fn chosen(objects: &[Value], named: &Named) -> Result<PerRole<String>, ImportError> {
        let found = select(KIND, objects, named)?;
        Ok(found.map(|one| one.map_or_else(String::new, |one| name_of(&one).to_owned())))
    }

    #[test]
    fn names_speak_of_roles_and_so_do_targets() {
        let objects = [
            hpa("a", "llama-decode"),
            hpa("llama-prefill", "x"),
            hpa("other", "web"),
        ];
        let found = chosen(&objects, &Named::default()).unwrap();
        assert_eq!(
            (found.prefill.as_str(), found.decode.as_str()),
            ("llama-prefill", "a")
        );
    }

    #[test]
    fn a_name_that_is_given_counts() {
        let objects = [hpa("one", "x"), hpa("two", "y"), hpa("llama-prefill", "z")];
        let named = Named {
            names: PerRole {
                prefill: Some("one".to_owned()),
                decode: Some("two".to_owned()),
            },
            ..Named::default()
        };
        let found = chosen(&objects, &named).unwrap();
        assert_eq!(
            (found.prefill.as_str(), found.decode.as_str()),
            ("one", "two")
        );
    }

    #[test]
    fn nothing_is_guessed() {
        let two = [hpa("prefill-a", "x"), hpa("prefill-b", "y")];
        let error = chosen(&two, &Named::default()).unwrap_err().to_string();
        assert!(
            error.contains("prefill-a and prefill-b") && error.contains("--prefill=NAME"),
            "{error}"
        );
        let error = chosen(&[hpa("x", "y")], &Named::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("there are x"), "{error}");
    }

    #[test]
    fn a_role_whose_workload_is_named_needs_no_object() {
        let named = Named {
            without: PerRole {
                prefill: false,
                decode: true,
            },
            ..Named::default()
        };
        let found = chosen(&[hpa("prefill", "x")], &named).unwrap();
        assert_eq!(
            (found.prefill.as_str(), found.decode.as_str()),
            ("prefill", "")
        );
    }

    #[test]
    fn lists_and_several_documents_are_read_alike() {
        let text = "kind: A\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n---\n";
        let kinds: Vec<Value> = documents("x", text)
            .unwrap()
            .into_iter()
            .map(|one| one["kind"].clone())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        let error = documents("hpa.yaml", "a: [").unwrap_err().to_string();
        assert!(error.starts_with("hpa.yaml cannot be read: "), "{error}");
    }
}
