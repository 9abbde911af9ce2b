//! Which PDAutoscalers a controller handles: those of its class whose labels match its selector, in
//! the namespaces of its shard.
//!
//! Several controllers share a cluster without a war: each object has one class, as an Ingress has,
//! and each namespace is in one shard. All of them watch every object, so that two that name the
//! same workload are found whatever their classes.

use clap::Args;
use kube::{
    ResourceExt as _,
    core::{Expression, Selector, SelectorExt as _},
};
use pd_api::v1alpha1::PDAutoscaler;

use crate::Guarded;

/// Which PDAutoscalers are handled.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Objects")]
pub struct SelectionArgs {
    /// Handle the PDAutoscalers with this spec.controllerClass. When empty, those without a class.
    #[arg(
        long, default_value = "", env = "PD_CONTROLLER_CLASS", value_name = "CLASS", value_parser = class,
        hide_default_value = true
    )]
    pub controller_class: String,

    /// Handle the PDAutoscalers whose labels match, such as `team=a,tier in (gold,
    /// silver),!canary`; all when not given. No two controllers of one class may select the same
    /// object.
    #[arg(long, env = "PD_OBJECT_SELECTOR", value_name = "SELECTOR", value_parser = selector)]
    pub object_selector: Option<Selector>,

    /// Controllers that part the namespaces among themselves, each with another --shard-index. All
    /// must be stopped before the number is changed.
    #[arg(long, default_value_t = 1, env = "PD_SHARD_COUNT", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub shard_count: u16,

    /// Which of them this one is, from 0.
    #[arg(
        long,
        default_value_t = 0,
        env = "PD_SHARD_INDEX",
        value_name = "INDEX"
    )]
    pub shard_index: u16,
}

/// A shard that does not exist.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("--shard-index `{index}` must be below --shard-count `{count}`: shards are counted from 0")]
pub struct ShardError {
    /// The index.
    pub index: u16,
    /// The count.
    pub count: u16,
}

impl Default for SelectionArgs {
    fn default() -> Self {
        Self {
            controller_class: String::new(),
            object_selector: None,
            shard_count: 1,
            shard_index: 0,
        }
    }
}

/// The shard of `namespace` among `count`, which is at least 1, by FNV-1a: every version of this
/// program must find the same.
pub fn shard_of(namespace: &str, count: u16) -> u16 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let hash = namespace.bytes().fold(BASIS, add);
    // Below `count`, so that it fits.
    u16::try_from(hash % u64::from(count.max(1))).unwrap_or_default()
}

impl SelectionArgs {
    /// Whether the shard exists.
    pub fn check(&self) -> Result<(), ShardError> {
        let (index, count) = (self.shard_index, self.shard_count);
        if index < count {
            Ok(())
        } else {
            Err(ShardError { index, count })
        }
    }

    /// The name of the Lease of these controllers where nobody names one: shards do not share one.
    pub fn lease_name(&self) -> String {
        let (index, count) = (self.shard_index, self.shard_count);
        match count {
            1 => crate::NAME.to_owned(),
            _ => format!("{}-shard-{index}-of-{count}", crate::NAME),
        }
    }

    /// Whether `object` is handled here. One that cannot be decoded shows no class, and is that of
    /// the controller without one, which reports it.
    pub fn includes(&self, object: &Guarded) -> bool {
        let of_class = |object: &PDAutoscaler| {
            let class = object.spec.controller_class.as_deref();
            class.unwrap_or_default() == self.controller_class
        };
        let selected = |selector: &Selector| selector.matches(object.labels());
        let is_of_class = match &object.0 {
            Ok(object) => of_class(object),
            Err(_) => self.controller_class.is_empty(),
        };
        let namespace = object.namespace().unwrap_or_default();
        let in_shard = shard_of(&namespace, self.shard_count) == self.shard_index;
        in_shard && is_of_class && self.object_selector.as_ref().is_none_or(selected)
    }
}

fn class(text: &str) -> Result<String, String> {
    if pd_api::v1alpha1::is_controller_class(text) {
        Ok(text.to_owned())
    } else {
        Err(pd_api::v1alpha1::CONTROLLER_CLASS_REMEDY.to_owned())
    }
}

/// A label selector as kubectl takes it.
fn selector(text: &str) -> Result<Selector, String> {
    let parts = parts(text)?;
    parts.into_iter().map(requirement).collect()
}

/// The requirements of a selector: commas part them, but not inside parentheses.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut is_inside) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match (character, is_inside) {
            ('(', false) => is_inside = true,
            (')', true) => is_inside = false,
            (',', false) => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            ('(' | ')', _) => return Err(format!("`{text}` has a parenthesis too many")),
            _ => {}
        }
    }
    if is_inside {
        return Err(format!("`{text}` lacks a closing parenthesis"));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn requirement(text: &str) -> Result<Expression, String> {
    let text = text.trim();
    if let Some((key, set)) = text.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        let mut words = key.split_whitespace();
        let (Some(key), Some(operator), None) = (words.next(), words.next(), words.next()) else {
            return Err(unreadable(text));
        };
        let values: Result<_, String> = set.split(',').map(value).collect();
        return match operator {
            "in" => Ok(Expression::In(self::key(key)?, values?)),
            "notin" => Ok(Expression::NotIn(self::key(key)?, values?)),
            _ => Err(unreadable(text)),
        };
    }
    if let Some((key, wanted)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(self::key(key)?, value(wanted)?));
    }
    if let Some((key, wanted)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Expression::Equal(self::key(key)?, value(wanted)?));
    }
    match text.strip_prefix('!') {
        Some(key) => Ok(Expression::DoesNotExist(self::key(key)?)),
        None => Ok(Expression::Exists(key(text)?)),
    }
}

fn unreadable(text: &str) -> String {
    format!(
        "`{text}` must be KEY, !KEY, KEY=VALUE, KEY!=VALUE, KEY in (VALUES) or KEY notin (VALUES)"
    )
}

/// A key of a label: a name, and before it a DNS name and a slash.
fn key(text: &str) -> Result<String, String> {
    let key = text.trim();
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("", key));
    let is_prefix = prefix.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    });
    if is_prefix && !name.is_empty() && is_label_text(name) {
        Ok(key.to_owned())
    } else {
        Err(format!(
            "`{key}` must be a label key, such as team or example.com/team"
        ))
    }
}

fn value(text: &str) -> Result<String, String> {
    let value = text.trim();
    if is_label_text(value) {
        Ok(value.to_owned())
    } else {
        Err(format!(
            "`{value}` must be a label value: letters, digits, `-`, `_` and `.`"
        ))
    }
}

/// Whether `text` can be a label's value, which may be empty.
fn is_label_text(text: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    let all = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= 63
        && text.bytes().all(all)
        && is_end(text.bytes().next())
        && is_end(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use kube::{Resource as _, core::DeserializeGuard};
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn object(class: &Value, labels: &Value) -> Guarded {
        let role = |name: &str| {
            json!({
                "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
                "maxReplicas": 8,
            })
        };
        let mut object = json!({
            "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
            "metadata": { "name": "llama", "namespace": "a", "labels": labels },
            "spec": {
                "prefill": role("p"), "decode": role("d"),
                "objective": { "ttft": { "target": "1s" }, "tpot": { "target": "40ms" } },
            },
        });
        if !class.is_null() {
            object["spec"]["controllerClass"] = class.clone();
        }
        serde_json::from_value::<DeserializeGuard<PDAutoscaler>>(object).unwrap()
    }

    fn of_class(class: &str) -> SelectionArgs {
        SelectionArgs {
            controller_class: class.to_owned(),
            ..SelectionArgs::default()
        }
    }

    #[rstest]
    // Known values of FNV-1a: another hash would give a namespace two controllers in an upgrade.
    #[case("default", [0, 0, 2, 6])]
    #[case("team-a", [0, 0, 2, 0])]
    #[case("team-b", [0, 1, 3, 4])]
    #[case("", [0, 1, 1, 2])]
    fn a_namespace_stays_in_its_shard_from_version_to_version(
        #[case] namespace: &str,
        #[case] shards: [u16; 4],
    ) {
        assert_eq!([1, 2, 4, 7].map(|count| shard_of(namespace, count)), shards);
    }

    #[test]
    fn shards_are_about_equally_large() {
        for count in [2, 4, 8, 16] {
            let mut sizes = vec![0_u32; usize::from(count)];
            for team in 0..4_000 {
                sizes[usize::from(shard_of(&format!("team-{team}"), count))] += 1;
            }
            let mean = 4_000 / u32::from(count);
            let (least, most) = (sizes.iter().min(), sizes.iter().max());
            // Four standard deviations of a fair draw.
            let apart = (4.0 * f64::from(mean).sqrt()).ceil();
            assert!(least.is_some_and(|&least| f64::from(mean) - f64::from(least) <= apart));
            assert!(most.is_some_and(|&most| f64::from(most) - f64::from(mean) <= apart));
        }
    }

    #[test]
    fn a_shard_that_does_not_exist_is_refused_and_each_has_its_lease() {
        let of = |shard_index, shard_count| SelectionArgs {
            shard_count,
            shard_index,
            ..SelectionArgs::default()
        };
        assert_eq!(of(3, 4).check(), Ok(()));
        let error = of(4, 4).check().unwrap_err().to_string();
        assert!(error.contains("--shard-index `4`"), "{error}");
        assert_eq!(of(0, 1).lease_name(), "pd-autoscaler");
        assert_eq!(of(3, 4).lease_name(), "pd-autoscaler-shard-3-of-4");
    }

    #[rstest]
    #[case::none_is_the_default(Value::Null, "", true)]
    #[case::empty_is_the_default(json!(""), "", true)]
    #[case::of_another(json!("blue"), "", false)]
    #[case::its_own(json!("blue"), "blue", true)]
    #[case::without_one(Value::Null, "blue", false)]
    #[case::spelt_otherwise(json!("Blue"), "blue", false)]
    #[case::longer(json!("blue.example.com"), "blue", false)]
    // A class that is no text cannot be decoded.
    #[case::undecodable(json!(7), "", true)]
    #[case::undecodable_elsewhere(json!(7), "blue", false)]
    fn an_object_is_its_classes(#[case] class: Value, #[case] controller: &str, #[case] own: bool) {
        let object = object(&class, &json!({}));
        assert_eq!(of_class(controller).includes(&object), own);
    }

    #[rstest]
    #[case("team=a", true)]
    #[case("team==a", true)]
    #[case("team = b", false)]
    #[case("team!=a", false)]
    #[case("absent!=a", true)]
    #[case("team", true)]
    #[case("!team", false)]
    #[case("!absent", true)]
    #[case("team in (a, b)", true)]
    #[case("team notin (a,b)", false)]
    #[case("absent notin (a)", true)]
    #[case("absent in (a)", false)]
    #[case("team=a,example.com/tier in (gold,silver)", true)]
    #[case("team=a, example.com/tier=gold , !canary", true)]
    #[case("team=a,canary", false)]
    fn selectors_mean_what_kubectl_makes_of_them(#[case] text: &str, #[case] own: bool) {
        let labels = json!({ "team": "a", "example.com/tier": "gold" });
        let selection = SelectionArgs {
            object_selector: Some(selector(text).unwrap()),
            ..SelectionArgs::default()
        };
        assert_eq!(selection.includes(&object(&Value::Null, &labels)), own);
    }

    #[rstest]
    #[case("")]
    #[case("team=a,")]
    #[case("team in a")]
    #[case("team in (a")]
    #[case("team in a)")]
    #[case("team like (a)")]
    #[case("team in ((a))")]
    #[case("te am=a")]
    #[case("team=a b")]
    #[case("=a")]
    #[case("team=-a")]
    #[case("Example.com/team=a")]
    fn a_selector_that_kubectl_refuses_is_refused(#[case] text: &str) {
        assert!(selector(text).is_err(), "{text}");
    }

    #[rstest]
    #[case("")]
    #[case("blue")]
    #[case("pd.example.com")]
    fn a_class_is_empty_or_a_name(#[case] text: &str) {
        assert_eq!(class(text).as_deref(), Ok(text));
        assert!(class(&format!("{text}_/")).is_err());
    }

    proptest! {
        #[test]
        fn an_object_is_of_one_class_whatever_classes_there_are(
            own in prop::option::of("[a-c]{0,2}"), classes in prop::collection::btree_set("[a-c]{0,2}", 0..8),
        ) {
            let object = object(&own.clone().map_or(Value::Null, Value::from), &json!({}));
            let takers = classes.iter().filter(|class| of_class(class).includes(&object));
            let expected = usize::from(classes.contains(own.as_deref().unwrap_or_default()));
            prop_assert_eq!(takers.count(), expected);
        }

        #[test]
        fn every_namespace_is_in_exactly_one_shard(
            namespace in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", count in 1u16..=300,
        ) {
            let mut object = object(&Value::Null, &json!({}));
            object.meta_mut().namespace = Some(namespace);
            let takers = (0..count).filter(|&shard_index| {
                let selection = SelectionArgs {
                    shard_index,
                    shard_count: count,
                    ..SelectionArgs::default()
                };
                selection.includes(&object)
            });
            prop_assert_eq!(takers.count(), 1);
        }
    }
}
