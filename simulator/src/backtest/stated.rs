//! The object's profile of its replicas: coefficients in its spec, or profiles in `ConfigMap`s
//! whose manifests the user gives, read as the controller reads them.
//!
//! A profile that the object names and nobody gives is refused: the controller would have decided
//! by it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pd_api::Manifest;
use pd_core::capacity::Profile;
use pd_core::policy::Policy;
use pd_core::{PerRole, Role};
use pd_signals::stated::{Reference, Stated};
use serde::Deserialize;
use thiserror::Error;

/// A stated profile that cannot be read.
#[derive(Debug, Error)]
pub enum StatedError {
    /// A manifest cannot be read.
    #[error("config map `{}` cannot be read: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why, and what to give instead.
        reason: String,
    },
    /// A profile that the object names is not there, or is wrong.
    #[error("the profile of {role} cannot be had: {reason}; give its manifest with --config-map")]
    Profile {
        /// Whose profile.
        role: Role,
        /// Why.
        reason: String,
    },
}

/// The part of a manifest that counts.
#[derive(Debug, Deserialize)]
struct ConfigMap {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

/// The profile that `object` states for replicas of so many GPUs, if any.
pub(crate) fn profile(
    object: &Manifest,
    policy: &Policy,
    gpus_per_replica: PerRole<u32>,
    manifests: &[PathBuf],
) -> Result<Option<Profile>, StatedError> {
    let mut config_maps = BTreeMap::new();
    for path in manifests {
        let found = read(path)?;
        config_maps.insert(found.metadata.name, found.data);
    }
    let references = PerRole::from_fn(|role| {
        let reference = object.spec.profile_ref(role)?;
        Some(Reference {
            name: &reference.name,
            key: reference.key.as_deref(),
        })
    });
    let stated = Stated::in_config_maps(
        &config_maps,
        object.metadata.namespace.as_deref().unwrap_or("default"),
        policy.coefficients,
        references,
        gpus_per_replica,
    );
    match stated.errors.first() {
        None => Ok(stated.profile),
        Some((role, error)) => Err(StatedError::Profile {
            role: *role,
            reason: error.to_string(),
        }),
    }
}

fn read(path: &Path) -> Result<ConfigMap, StatedError> {
    let refused = |reason: String| StatedError::Manifest {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let found: ConfigMap =
        serde_saphyr::from_str(&text).map_err(|error| refused(error.to_string()))?;
    if found.kind != "ConfigMap" {
        let kind = found.kind;
        return Err(refused(format!("its kind is `{kind}`: give a ConfigMap")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::NamedTempFile;

    use super::*;
    use crate::policy::read_object;

    fn file(text: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn stated(manifests: &[PathBuf]) -> Result<Option<Profile>, StatedError> {
        let object = file(
            "apiVersion: pdautoscaler.io/v1alpha1
kind: PDAutoscaler
metadata: { name: llama }
spec:
  prefill:
    target: { apiVersion: apps/v1, kind: StatefulSet, name: prefill }
    maxReplicas: 4
  decode:
    target: { apiVersion: apps/v1, kind: StatefulSet, name: decode }
    maxReplicas: 4
  objective:
    ttft: { target: 500ms, percentile: 95 }
    tpot: { target: 25ms, percentile: 95 }
  capacity:
    prefill: { profileRef: { kind: ConfigMap, name: llama-70b } }
",
        );
        let (object, policy) = read_object(object.path()).unwrap();
        profile(&object, &policy, PerRole::from_fn(|_| 4), manifests)
    }

    #[test]
    fn a_profile_that_the_object_names_is_taken_from_the_manifest() {
        let manifest = file(
            "apiVersion: v1
kind: ConfigMap
metadata: { name: llama-70b, uid: x }
data:
  profile.yaml: |
    prefill: { baseMilliseconds: 8, millisecondsPerKilotoken: 42 }
",
        );
        let stated = stated(&[manifest.path().to_owned()]).unwrap().unwrap();
        assert!(stated.prefill.is_some() && stated.decode.is_none());
    }

    #[test]
    fn a_profile_that_nobody_gives_is_refused_with_the_remedy() {
        let message = stated(&[]).unwrap_err().to_string();
        assert!(
            message.contains("`llama-70b`") && message.contains("--config-map"),
            "{message}"
        );
        let other = file("kind: Secret\nmetadata: { name: llama-70b }\n");
        let message = stated(&[other.path().to_owned()]).unwrap_err().to_string();
        assert!(message.contains("its kind is `Secret`"), "{message}");
    }
}
