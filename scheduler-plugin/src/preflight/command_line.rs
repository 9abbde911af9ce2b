//! The command lines of pods in `kube-system` say about the feature gate, where nothing better can
//! be read.

use std::fmt::Display;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::{
    evidence::{self, Seen},
    judge::Component,
};

/// One instance: its gate by its command line, and its version.
pub(super) struct Line {
    pub(super) gate: Option<bool>,
    pub(super) version: String,
}

/// The pods whose container runs a component, with what their command lines say.
pub(super) fn instances(component: Component, pods: &[Pod]) -> Vec<(String, Line)> {
    let mut found = Vec::new();
    for pod in pods {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        for container in containers {
            let words: Vec<&str> = container
                .command
                .iter()
                .chain(&container.args)
                .flatten()
                .map(String::as_str)
                .collect();
            let program = words.first().and_then(|word| word.rsplit('/').next());
            if container.name != component.as_str() && program != Some(component.as_str()) {
                continue;
            }
            let image = container.image.as_deref().unwrap_or_default();
            let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
            let line = Line {
                gate: evidence::from_command_line(words.iter().flat_map(|word| word.split(' '))),
                version: tag.split('@').next().unwrap_or_default().to_owned(),
            };
            found.push((pod.name_any(), line));
        }
    }
    found
}

pub(super) fn default_of(version: &str) -> Seen {
    match evidence::default_of(version) {
        Some(on) => Seen::new(
            on,
            format!("its command line leaves the default of {version}"),
        ),
        None => Seen::unknown(format!(
            "the default of version {version} is not known here"
        )),
    }
}

pub(super) fn seen(
    component: Component,
    pods: Result<&[Pod], impl Display>,
    version: &str,
) -> Seen {
    if evidence::is_too_old(version) {
        return Seen::new(false, format!("version {version} does not know the gate"));
    }
    let found = match pods {
        Ok(pods) => instances(component, pods),
        Err(why) => return Seen::unknown(why.to_string()),
    };
    if found.is_empty() {
        let why = "it does not run as a pod in kube-system, and neither --metrics-url nor --prometheus-url shows its metrics";
        return Seen::unknown(why);
    }
    let of = |(name, line): (String, Line)| match line.gate {
        Some(on) => (name, Seen::new(on, "its command line")),
        None => (name, default_of(version)),
    };
    evidence::all(&found.into_iter().map(of).collect::<Vec<_>>())
}
