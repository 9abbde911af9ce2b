//! The publishers' file: which taint comes from which query, and how carefully.
//!
//! A file is taken as a whole or not at all, and says what is wrong with the field's name. A key
//! and effect have one publisher: two would undo each other's work. Keys that Kubernetes itself
//! sets are refused, for their values mean something to it.

use std::{collections::BTreeMap, time::Duration};

use pd_tolerations::{Effect, FieldError, Taint, format::is_dns_label, validation};
use serde::{Deserialize, Deserializer};

/// Keys that Kubernetes sets on nodes itself, but for their prefix `node.kubernetes.io/`.
const KUBERNETES_OWNS: [&str; 9] = [
    "not-ready",
    "unreachable",
    "unschedulable",
    "memory-pressure",
    "disk-pressure",
    "pid-pressure",
    "network-unavailable",
    "out-of-service",
    "exclude-from-external-load-balancers",
];

/// Longest name of a publisher, bytes: the annotation that has it in its key allows 63.
const NAME_MAX: usize = 50;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Time between two evaluations of every query, at least 1 s.
    #[serde(default = "default_interval", deserialize_with = "duration")]
    pub interval: Duration,
    /// Most changes of nodes in any minute, by all publishers together.
    #[serde(default = "default_nodes_per_minute")]
    pub max_nodes_per_minute: u32,
    /// The publishers.
    pub publishers: Vec<Publisher>,
}

/// One taint, and where its value comes from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Publisher {
    /// Its name, in metrics, events and the annotation that keeps the time of the last change.
    pub name: String,
    /// Key of the taint that it owns.
    pub key: String,
    /// Effect of that taint.
    #[serde(deserialize_with = "effect")]
    pub effect: Effect,
    /// PromQL that gives one instant value per node.
    pub query: String,
    /// Label of these values that holds the node's name.
    #[serde(default = "default_node_label")]
    pub node_label: String,
    /// Labels of the nodes that it is for; every node without it.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// From values to the taint.
    #[serde(flatten)]
    pub rules: Rules,
}

/// How a value becomes a taint's number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// The factor for values: 10000 makes 0.9995 to 9995.
    #[serde(default = "default_scale")]
    pub scale: f64,
    /// How the product becomes an integer.
    #[serde(default)]
    pub rounding: Rounding,
    /// Lowest number, at least 0: a taint cannot be negative.
    #[serde(default)]
    pub minimum: i64,
    /// Highest number.
    #[serde(default = "default_maximum")]
    pub maximum: i64,
    /// Smallest change that is worth a write.
    #[serde(default = "default_dead_band")]
    pub dead_band: i64,
    /// Shortest time between two changes of one node.
    #[serde(default = "default_min_interval", deserialize_with = "duration")]
    pub min_interval: Duration,
    /// Whether nodes that lack the taint get it.
    #[serde(default)]
    pub add_missing: bool,
}

/// How products become integers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Rounding {
    /// Down: a node promises no more than it holds.
    #[default]
    Down,
    /// To the nearest, halves away from zero.
    Nearest,
    /// Up.
    Up,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is no such YAML.
    #[error("publisher configuration cannot be read: {0}")]
    Yaml(String),
    /// A field of the file.
    #[error("`{field}` is `{value}`: {remedy}")]
    Field {
        /// Where.
        field: String,
        /// The value that is there.
        value: String,
        /// The values that may be there.
        remedy: &'static str,
    },
    /// The API server would refuse the taint.
    #[error("publisher `{publisher}` would make a taint that is refused: {errors}")]
    Taint {
        /// Which.
        publisher: String,
        /// In the API server's words.
        errors: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self =
            serde_saphyr::from_str(text).map_err(|error| ConfigError::Yaml(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let bad = |field: &str, value: String, remedy| {
            Err(ConfigError::Field {
                field: field.to_owned(),
                value,
                remedy,
            })
        };
        if self.interval < Duration::from_secs(1) {
            let value = humantime::format_duration(self.interval).to_string();
            return bad("interval", value, "give at least 1s");
        }
        if self.max_nodes_per_minute == 0 {
            return bad("maxNodesPerMinute", "0".to_owned(), "give at least 1");
        }
        for (index, publisher) in self.publishers.iter().enumerate() {
            publisher.check(index)?;
            let earlier = &self.publishers[..index];
            if earlier.iter().any(|other| other.name == publisher.name) {
                let field = format!("publishers[{index}].name");
                return bad(&field, publisher.name.clone(), "give each its own name");
            }
            let same = |other: &Publisher| {
                (&other.key, &other.effect) == (&publisher.key, &publisher.effect)
            };
            if earlier.iter().any(same) {
                let field = format!("publishers[{index}].key");
                let remedy =
                    "another publisher owns this key and effect: give each taint one publisher";
                return bad(&field, publisher.key.clone(), remedy);
            }
        }
        Ok(())
    }
}

impl Publisher {
    /// The annotation that keeps the time of its last change of a node.
    pub fn annotation(&self) -> String {
        format!("{ANNOTATION_PREFIX}{}", self.name)
    }

    /// The taint that it owns, with a value.
    pub fn taint(&self, value: i64) -> Taint {
        Taint::new(self.key.as_str(), value.to_string(), self.effect.clone())
    }

    fn check(&self, index: usize) -> Result<(), ConfigError> {
        let bad = |field: &str, value: &str, remedy| {
            Err(ConfigError::Field {
                field: format!("publishers[{index}].{field}"),
                value: value.to_owned(),
                remedy,
            })
        };
        if !is_dns_label(&self.name) || self.name.len() > NAME_MAX {
            return bad(
                "name",
                &self.name,
                "use 1 to 50 lower-case letters, digits and dashes",
            );
        }
        if self.query.trim().is_empty() {
            return bad("query", &self.query, "give PromQL with one value per node");
        }
        if self.node_label.is_empty() {
            return bad("nodeLabel", "", "name the label that holds the node's name");
        }
        let owned = self.key.strip_prefix("node.kubernetes.io/");
        if owned.is_some_and(|name| KUBERNETES_OWNS.contains(&name)) {
            return bad(
                "key",
                &self.key,
                "Kubernetes sets this taint itself: choose another key",
            );
        }
        let errors = validation::taints(&[self.taint(self.rules.maximum)], "taints");
        if !errors.is_empty() {
            let text: Vec<String> = errors.iter().map(FieldError::to_string).collect();
            return Err(ConfigError::Taint {
                publisher: self.name.clone(),
                errors: text.join("; "),
            });
        }
        self.rules.check(&bad)
    }
}

impl Rules {
    fn check(
        &self,
        bad: &dyn Fn(&str, &str, &'static str) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return bad("scale", &self.scale.to_string(), "give a number above 0");
        }
        if self.minimum < 0 {
            return bad(
                "minimum",
                &self.minimum.to_string(),
                "a taint cannot be negative: give at least 0",
            );
        }
        if self.maximum < self.minimum {
            return bad(
                "maximum",
                &self.maximum.to_string(),
                "give at least `minimum`",
            );
        }
        if self.dead_band < 1 {
            return bad("deadBand", &self.dead_band.to_string(), "give at least 1");
        }
        Ok(())
    }
}

/// Prefix of the annotations with the time of the last change, RFC 3339, after others of the same
/// minute; the publisher's name follows.
pub const ANNOTATION_PREFIX: &str = "publisher.pdautoscaler.io/";

fn default_interval() -> Duration {
    Duration::from_secs(30)
}

const fn default_nodes_per_minute() -> u32 {
    10
}

fn default_node_label() -> String {
    "node".to_owned()
}

const fn default_scale() -> f64 {
    1.0
}

const fn default_maximum() -> i64 {
    i64::MAX
}

const fn default_dead_band() -> i64 {
    1
}

const fn default_min_interval() -> Duration {
    Duration::from_mins(5)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

fn effect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Effect, D::Error> {
    let effect = Effect::deserialize(deserializer)?;
    match effect {
        Effect::Unset | Effect::Other(_) => Err(serde::de::Error::custom(format!(
            "effect `{effect}` is unknown: use NoSchedule, PreferNoSchedule or NoExecute"
        ))),
        known => Ok(known),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SMALL: &str =
        "publishers: [{name: sla, key: node.kubernetes.io/sla, effect: NoExecute, query: up}]";

    #[test]
    fn little_has_to_be_said() {
        let config = Config::parse(SMALL).unwrap();
        let publisher = &config.publishers[0];
        assert_eq!(config.max_nodes_per_minute, 10);
        assert_eq!(publisher.node_label, "node");
        assert_eq!(publisher.rules.min_interval, Duration::from_mins(5));
        assert_eq!(publisher.annotation(), "publisher.pdautoscaler.io/sla");
        assert_eq!(
            publisher.taint(950).to_string(),
            "node.kubernetes.io/sla=950:NoExecute"
        );
    }

    #[rstest]
    #[case::no_yaml("publishers: [", "cannot be read")]
    #[case::unknown_field("publishers: []\ncolour: red", "colour")]
    #[case::unknown_field_of_a_publisher(
        "publishers: [{name: a, key: k, effect: NoExecute, query: up, colour: red}]",
        "colour"
    )]
    #[case::effect("publishers: [{name: a, key: k, effect: NoRun, query: up}]", "`NoRun`")]
    #[case::name(
        "publishers: [{name: A, key: k, effect: NoExecute, query: up}]",
        "publishers[0].name"
    )]
    #[case::key(
        "publishers: [{name: a, key: k k, effect: NoExecute, query: up}]",
        "refused"
    )]
    #[case::kubernetes(
        "publishers: [{name: a, key: node.kubernetes.io/not-ready, effect: NoExecute, query: up}]",
        "itself"
    )]
    #[case::query(
        "publishers: [{name: a, key: k, effect: NoExecute, query: ' '}]",
        "publishers[0].query"
    )]
    #[case::scale(
        "publishers: [{name: a, key: k, effect: NoExecute, query: up, scale: .nan}]",
        "scale"
    )]
    #[case::minimum(
        "publishers: [{name: a, key: k, effect: NoExecute, query: up, minimum: -1}]",
        "negative"
    )]
    #[case::maximum(
        "publishers: [{name: a, key: k, effect: NoExecute, query: up, minimum: 5, maximum: 4}]",
        "maximum"
    )]
    #[case::dead_band(
        "publishers: [{name: a, key: k, effect: NoExecute, query: up, deadBand: 0}]",
        "deadBand"
    )]
    #[case::interval("interval: 1ms\npublishers: []", "interval")]
    #[case::rate("maxNodesPerMinute: 0\npublishers: []", "maxNodesPerMinute")]
    #[case::names(
        "publishers: [{name: a, key: k, effect: NoExecute, query: up}, {name: a, key: l, effect: NoExecute, query: up}]",
        "own name"
    )]
    #[case::taints(
        "publishers: [{name: a, key: k, effect: NoExecute, query: up}, {name: b, key: k, effect: NoExecute, query: up}]",
        "one publisher"
    )]
    fn bad_files_say_what_is_wrong(#[case] text: &str, #[case] says: &str) {
        let error = Config::parse(text).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
