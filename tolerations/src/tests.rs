//! The rules of taints and tolerations: known vectors as tables, laws against an independent
//! reading of the rules, the API server's words against a recording of Kubernetes' own code.

mod carriers;
mod differential;
mod evictions;
mod extensions;
mod mirroring;
mod preference;
mod queue;
mod queue_laws;
mod rules;
mod vectors;
mod words;

use super::*;

/// A toleration in short: key, operator, value, effect, seconds.
fn toleration(
    key: &str,
    operator: &str,
    value: &str,
    effect: &str,
    seconds: Option<i64>,
) -> Toleration {
    Toleration {
        key: key.to_owned(),
        operator: operator.into(),
        value: value.to_owned(),
        effect: effect.into(),
        toleration_seconds: seconds,
    }
}

/// A taint as kubectl writes it: `key=value:effect`.
fn taint(text: &str) -> Taint {
    let (rest, effect) = text.split_once(':').unwrap();
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    Taint::new(key, value, effect.into())
}

fn taints(texts: &[&str]) -> Vec<Taint> {
    texts.iter().map(|text| taint(text)).collect()
}
