//! The labels of the mirror: their names and values, and what of a node's labels has to change.
//!
//! Every label here ends its prefix in [`LABEL_DOMAIN`] and belongs to this project. The label of a
//! taint says what the taint says, in a form that node affinity reads as tolerations do. The label
//! of a hold names a pod that runs, and is there while the pod must not be held to the numbers that
//! the node has now.

use std::{borrow::Cow, collections::BTreeMap};

use super::super::{Effect, Taint, format::is_label_name, validation};

/// End of the prefix of every label of the mirror.
pub const LABEL_DOMAIN: &str = "taint.pdautoscaler.io";

/// Beginning of the value for a taint's value that is a number to affinity and none to tolerations.
pub const NOT_A_NUMBER: &str = "NaN-";

/// The annotation of a pod that names its hold: the token of [`hold_of_pod`].
pub const HOLD: &str = "pdautoscaler.io/hold";

/// Longest label value, bytes.
const VALUE_MAX: usize = 63;

/// Most digits of an int64: longer texts are no number to affinity either.
const DIGITS_MAX: usize = 19;

/// The label of taints with `key` and `effect`, such as
/// `node.kubernetes.io.no-execute.taint.pdautoscaler.io/sla`. Nothing for a key that has no room
/// for it, or an effect that Kubernetes does not know.
pub fn label(key: &str, effect: &Effect) -> Option<String> {
    let effect = match effect {
        Effect::NoSchedule => "no-schedule",
        Effect::PreferNoSchedule => "prefer-no-schedule",
        Effect::NoExecute => "no-execute",
        Effect::Unset | Effect::Other(_) => return None,
    };
    valid(match key.split_once('/') {
        Some((prefix, name)) => format!("{prefix}.{effect}.{LABEL_DOMAIN}/{name}"),
        None => format!("{effect}.{LABEL_DOMAIN}/{key}"),
    })
}

/// The label that holds one pod, which its creation gave `token`. Nothing for a token that is no
/// label name.
pub fn hold_of_pod(token: &str) -> Option<String> {
    valid(format!("held.{LABEL_DOMAIN}/{token}"))
}

/// The label that holds the pod of a `DaemonSet`. Nothing for a name that is too long for it.
pub fn hold_of_daemon_set(namespace: &str, name: &str) -> Option<String> {
    valid(format!("{namespace}.held.{LABEL_DOMAIN}/{name}"))
}

fn valid(label: String) -> Option<String> {
    validation::label_key(&label).is_empty().then_some(label)
}

/// The label's value for a taint's value: the same text, but for texts that would be mistaken for
/// another. No two values have the same.
///
/// `0950` is `NaN-1-950`: affinity would read it as a number, tolerations do not. It says how many
/// zeros stand before which digits. A text that begins like one of these is marked.
pub fn label_value(taint_value: &str) -> Cow<'_, str> {
    let is_text = || !taint_value.bytes().all(|byte| byte.is_ascii_digit());
    if taint_value.starts_with(NOT_A_NUMBER) {
        return Cow::Owned(marked(taint_value));
    }
    if taint_value.len() < 2 || !taint_value.starts_with('0') || is_text() {
        return Cow::Borrowed(taint_value);
    }
    let digits = match taint_value.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    if digits.len() > DIGITS_MAX {
        return Cow::Borrowed(taint_value);
    }
    let zeros = taint_value.len() - digits.len();
    Cow::Owned(format!("{NOT_A_NUMBER}{zeros}-{digits}"))
}

/// A text behind a mark; if there is no room for all of it, with its hash (FNV-1a) for the rest.
fn marked(text: &str) -> String {
    let whole = format!("{NOT_A_NUMBER}x-{text}");
    if whole.len() <= VALUE_MAX {
        return whole;
    }
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let start: String = text.chars().take(32).collect();
    format!("{NOT_A_NUMBER}x-{start}-{hash:016x}")
}

/// Whether a label belongs to the mirror, by its key.
pub fn is_mirrored(label: &str) -> bool {
    let prefix = label.split_once('/').map_or("", |(prefix, _)| prefix);
    let rest = prefix.strip_suffix(LABEL_DOMAIN);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The changes of a node's `labels` that leave it with those of the mirror that are `due`: values
/// to set, and nothing for labels to remove. Empty if they are so already; a label that does not
/// belong to the mirror is never named.
pub fn changes(
    labels: &BTreeMap<String, String>,
    due: &BTreeMap<String, String>,
) -> BTreeMap<String, Option<String>> {
    let stale = labels
        .keys()
        .filter(|label| is_mirrored(label) && !due.contains_key(*label))
        .map(|label| (label.clone(), None));
    let wrong = due
        .iter()
        .filter(|(label, value)| labels.get(*label) != Some(value))
        .map(|(label, value)| (label.clone(), Some(value.clone())));
    stale.chain(wrong).collect()
}

/// The labels that mirror `taints`.
pub fn labels(taints: &[Taint]) -> BTreeMap<String, String> {
    let label_of = |taint: &Taint| {
        let label = label(&taint.key, &taint.effect)?;
        let value = label_value(&taint.value);
        let is_value = value.is_empty() || is_label_name(&value);
        is_value.then(|| (label, value.into_owned()))
    };
    taints.iter().filter_map(label_of).collect()
}
