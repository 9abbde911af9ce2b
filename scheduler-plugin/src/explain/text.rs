//! An explanation for people: verdict first, then why, then what the API server would say.
//!
//! Marks are `+` and `-`, so that it reads the same in a log, a terminal and a ticket. Nothing is
//! said twice.

use std::fmt::{Display, Formatter, Result};

use super::{EvictionPart, Explanation, NodePart, TaintPart, When, Words};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let pod = &self.pod;
        let namespace = pod.namespace.iter().flat_map(|name| [name.as_str(), "/"]);
        let namespace: String = namespace.collect();
        writeln!(f, "{} {namespace}{}", pod.kind, pod.name)?;
        for (index, toleration) in pod.tolerations.iter().enumerate() {
            writeln!(f, "  toleration {index}: {toleration}")?;
        }
        if let Some(error) = &pod.annotation_error {
            writeln!(
                f,
                "  - the annotation cannot be used, so no node fits: {error}"
            )?;
        }
        for node in &self.nodes {
            write_node(f, node)?;
        }
        if !pod.errors.is_empty() {
            writeln!(f, "\nThe API server refuses this {}:", pod.kind)?;
            write_words(f, &pod.errors)?;
        } else if !pod.errors_without_gate.is_empty() {
            writeln!(
                f,
                "\nAn API server without the feature gate TaintTolerationComparisonOperators refuses this {}, unless the webhook of this project rewrites it:",
                pod.kind
            )?;
            write_words(f, &pod.errors_without_gate)?;
        }
        Ok(())
    }
}

fn write_node(f: &mut Formatter<'_>, node: &NodePart) -> Result {
    let verdict = if node.fits { "fits" } else { "does not fit" };
    writeln!(f, "\nNode {}: {verdict}", node.name)?;
    if node.taints.is_empty() {
        writeln!(f, "  no taints, so tolerations do not matter")?;
    }
    for taint in &node.taints {
        write_taint(f, taint)?;
    }
    for missing in &node.missing {
        writeln!(f, "  - {missing}")?;
    }
    if node.untolerated_preferences > 0 {
        let count = node.untolerated_preferences;
        writeln!(
            f,
            "  avoided if possible: PreferNoSchedule taints not tolerated: {count}"
        )?;
    }
    write_eviction(f, &node.eviction)?;
    if !node.errors.is_empty() {
        writeln!(f, "  The API server refuses these taints:")?;
        write_words(f, &node.errors)?;
    }
    Ok(())
}

fn write_taint(f: &mut Formatter<'_>, taint: &TaintPart) -> Result {
    let mark = if taint.tolerated { '+' } else { '-' };
    write!(f, "  {mark} {}", taint.taint)?;
    match taint.toleration {
        Some(index) => write!(f, " is tolerated by toleration {index}: {}", taint.reason)?,
        None => write!(f, " is not tolerated: {}", taint.reason)?,
    }
    match taint.margin {
        Some(margin) => writeln!(f, " (margin {margin})"),
        None => writeln!(f),
    }
}

fn write_eviction(f: &mut Formatter<'_>, eviction: &EvictionPart) -> Result {
    let reason = &eviction.reason;
    match (eviction.when, eviction.seconds) {
        (When::Never, _) => writeln!(f, "  a running pod stays: {reason}"),
        (When::After, Some(seconds)) => {
            writeln!(
                f,
                "  a running pod is evicted {seconds} s after the taints are seen: {reason}"
            )
        }
        _ => writeln!(f, "  a running pod is evicted at once: {reason}"),
    }
}

fn write_words(f: &mut Formatter<'_>, words: &[Words]) -> Result {
    words
        .iter()
        .try_for_each(|word| writeln!(f, "    {}", word.message))
}
