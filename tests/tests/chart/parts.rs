//! Shared by the tests of the chart's parts: the objects of one part, its arguments, its rights.
//!
//! A part is what the chart can run beside the controller, each with objects of one name and values
//! of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{of_kind, rendered};

/// The objects of one part, rendered as release `pd` in namespace `system`.
pub(crate) struct Part(pub(crate) Vec<Value>);

impl Part {
    /// The part whose word is `word`, rendered with `values`.
    pub(crate) async fn rendered(word: &str, values: Value) -> Self {
        let name = format!("pd-pd-autoscaler-{word}");
        let all = rendered(values).await;
        let of_part = |object: &Value| object["metadata"]["name"] == name.as_str();
        Self(all.into_iter().filter(of_part).collect())
    }

    /// The part `word` switched on, with `changes` over its own values and `others` beside them.
    pub(crate) async fn enabled(word: &str, changes: Value, mut others: Value) -> Self {
        let mut own = changes;
        own["enabled"] = true.into();
        others[word] = own;
        Self::rendered(word, others).await
    }

    /// How many objects there are of each kind.
    pub(crate) fn kinds(&self) -> BTreeMap<&str, usize> {
        let mut kinds = BTreeMap::new();
        for object in &self.0 {
            *kinds.entry(object["kind"].as_str().unwrap()).or_default() += 1;
        }
        kinds
    }

    /// The only object of a kind.
    pub(crate) fn one(&self, kind: &str) -> &Value {
        let found = of_kind(&self.0, kind);
        assert_eq!(found.len(), 1, "one {kind}");
        found[0]
    }

    /// The only container of its Deployment.
    pub(crate) fn container(&self) -> &Value {
        let pod = &self.one("Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
        &pod["containers"][0]
    }

    /// The container's arguments, with the program's name in front.
    pub(crate) fn command(&self, program: &str) -> Vec<String> {
        let arguments: Vec<String> =
            serde_json::from_value(self.container()["args"].clone()).unwrap();
        std::iter::once(program.to_owned())
            .chain(arguments)
            .collect()
    }

    /// Its rights, each as `resource[/name] verb`.
    pub(crate) fn rights(&self) -> BTreeSet<String> {
        let texts = |value: &Value| -> Vec<String> {
            let all = value.as_array().into_iter().flatten();
            all.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let mut rights = BTreeSet::new();
        for rule in self
            .0
            .iter()
            .filter_map(|object| object["rules"].as_array())
            .flatten()
        {
            let names = texts(&rule["resourceNames"]);
            let name = names
                .iter()
                .fold(String::new(), |all, name| all + "/" + name);
            for resource in texts(&rule["resources"]) {
                let verbs = texts(&rule["verbs"]);
                rights.extend(verbs.iter().map(|verb| format!("{resource}{name} {verb}")));
            }
        }
        rights
    }

    /// Checks that the Service leads to the pods, and the bindings from the pods' account to the
    /// roles.
    pub(crate) fn is_wired(&self) {
        let pod = &self.one("Deployment")["spec"]["template"];
        let labels = &pod["metadata"]["labels"];
        assert_ne!(
            labels["app.kubernetes.io/component"], "autoscaler",
            "the controller's selectors must not find it"
        );
        for service in of_kind(&self.0, "Service") {
            for (key, value) in service["spec"]["selector"].as_object().unwrap() {
                assert_eq!(&labels[key], value);
            }
            let ports = self.container()["ports"].as_array().unwrap();
            let target = &service["spec"]["ports"][0]["targetPort"];
            assert!(ports.iter().any(|port| &port["name"] == target));
        }
        let account = &self.one("ServiceAccount")["metadata"]["name"];
        assert_eq!(&pod["spec"]["serviceAccountName"], account);
        for kind in ["ClusterRole", "Role"] {
            for binding in of_kind(&self.0, &format!("{kind}Binding")) {
                assert_eq!(binding["roleRef"]["kind"], kind);
                assert_eq!(
                    binding["roleRef"]["name"],
                    self.one(kind)["metadata"]["name"]
                );
                assert_eq!(&binding["subjects"][0]["name"], account);
            }
        }
    }

    /// Checks that each flag of `command` has a value in one of the argument lists, but for those
    /// in `left_out`.
    pub(crate) fn flags_have_values(
        command: &clap::Command,
        given: &BTreeSet<String>,
        left_out: &[&str],
    ) {
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            let is_given = given
                .iter()
                .any(|arg| *arg == format!("--{flag}") || arg.starts_with(&format!("--{flag}=")));
            assert!(
                is_given || left_out.contains(&flag),
                "give --{flag} a value in the chart"
            );
        }
    }
}
