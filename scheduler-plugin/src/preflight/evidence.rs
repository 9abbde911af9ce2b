//! The evidence of metrics, command lines and versions about the feature gate: texts in, answers
//! out.
//!
//! The gate is alpha and off by default from 1.35 to 1.37, and unknown before. Later defaults are
//! not known here, so a later version without further evidence says nothing.

use prometheus_parse::{Scrape, Value};
use strum::IntoStaticStr;

/// The feature gate.
pub const GATE: &str = "TaintTolerationComparisonOperators";

/// The metric that lists a component's feature gates.
const GATE_METRIC: &str = "kubernetes_feature_enabled";

/// First minor version of Kubernetes that knows the gate.
pub const SINCE_MINOR: u32 = 35;

/// Last minor version whose default is known to be off.
const OFF_UP_TO_MINOR: u32 = 37;

/// Whether a component compares numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "snake_case")]
pub enum Gate {
    /// It does, everywhere it was asked.
    On,
    /// It does not, at least in one place.
    Off,
    /// It cannot be seen.
    Unknown,
    /// The component is not there.
    Absent,
}

impl Gate {
    /// Its word in output, metrics and conditions.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl From<bool> for Gate {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// The state of a component, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether it compares numbers.
    pub gate: Gate,
    /// Where that is from; for what is unknown, why.
    pub how: String,
}

impl Seen {
    /// Known, and how.
    pub fn new(gate: impl Into<Gate>, how: impl Into<String>) -> Self {
        Self {
            gate: gate.into(),
            how: how.into(),
        }
    }

    /// Not known, and why.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::new(Gate::Unknown, why)
    }
}

/// The gate by a component's metrics; nothing if they do not list gates. A component that lists
/// others and not this one does not know it.
pub fn from_metrics(text: &str) -> Option<bool> {
    // A page has thousands of other lines, which need no parsing.
    let lines = text.lines().filter(|line| line.starts_with(GATE_METRIC));
    let page = Scrape::parse(lines.map(|line| Ok(line.to_owned()))).ok()?;
    let mut gates = page.samples.iter().peekable();
    gates.peek()?;
    let gate = gates.find(|gate| gate.labels.get("name") == Some(GATE));
    gate.map_or(Some(false), |gate| match gate.value {
        Value::Untyped(value) | Value::Gauge(value) if value.is_finite() => Some(value > 0.0),
        _ => None,
    })
}

/// The gate by a command line, if it names one: the last word counts, and `AllAlpha` where the gate
/// is not named.
pub fn from_command_line<'a>(arguments: impl Iterator<Item = &'a str>) -> Option<bool> {
    let (mut named, mut all_alpha) = (None, None);
    let mut follows = false;
    for argument in arguments {
        let gates = match argument.strip_prefix("--feature-gates") {
            _ if follows => {
                follows = false;
                argument
            }
            Some("") => {
                follows = true;
                continue;
            }
            Some(rest) => rest.trim_start_matches('='),
            None => continue,
        };
        for gate in gates.split(',') {
            let Some((name, on)) = gate.trim().split_once('=') else {
                continue;
            };
            let on = Some(matches!(on, "true" | "True" | "TRUE" | "t" | "T" | "1"));
            match name {
                GATE => named = on,
                "AllAlpha" => all_alpha = on,
                _ => {}
            }
        }
    }
    named.or(all_alpha)
}

/// The minor version of `v1.36.2`, `1.36+`, `v1.36.2-eks-1` and the like.
pub fn minor(version: &str) -> Option<u32> {
    let version = version.trim().trim_start_matches('v');
    let minor = version.strip_prefix("1.")?;
    let digits = minor
        .find(|c: char| !c.is_ascii_digit())
        .map_or(minor, |end| &minor[..end]);
    digits.parse().ok()
}

/// The answer of a version by itself: old ones do not know the gate.
pub fn is_too_old(version: &str) -> bool {
    minor(version).is_some_and(|minor| minor < SINCE_MINOR)
}

/// The gate of a command line that does not name it.
pub fn default_of(version: &str) -> Option<bool> {
    (minor(version)? <= OFF_UP_TO_MINOR).then_some(false)
}

/// Several instances of a component: one that lacks the gate counts, and one that is not known.
pub fn all(seen: &[(String, Seen)]) -> Seen {
    if let [(_, alone)] = seen {
        return alone.clone();
    }
    let of = |gate: Gate| -> Vec<&(String, Seen)> {
        seen.iter().filter(|(_, seen)| seen.gate == gate).collect()
    };
    let (off, unknown, total) = (of(Gate::Off), of(Gate::Unknown), seen.len());
    let some = |instances: &[&(String, Seen)]| {
        let mut names: Vec<&str> = instances.iter().map(|(name, _)| name.as_str()).collect();
        let more = names.len().saturating_sub(3);
        names.truncate(3);
        let names = names.join(", ");
        if more > 0 {
            format!("{names} and {more} more")
        } else {
            names
        }
    };
    match (off.first(), unknown.first()) {
        (Some((_, first)), _) => {
            let how = format!("{} of {total}: {} ({})", off.len(), some(&off), first.how);
            Seen::new(Gate::Off, how)
        }
        (None, Some((_, first))) => {
            let (count, names) = (unknown.len(), some(&unknown));
            Seen::unknown(format!("{count} of {total}: {names} ({})", first.how))
        }
        (None, None) => match seen.first() {
            Some((_, first)) => Seen::new(Gate::On, format!("all {total} ({})", first.how)),
            None => Seen::new(Gate::Absent, "none found"),
        },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::on(
        "kubernetes_feature_enabled{name=\"TaintTolerationComparisonOperators\",stage=\"ALPHA\"} 1",
        Some(true)
    )]
    #[case::off(
        "# HELP x\nkubernetes_feature_enabled{name=\"TaintTolerationComparisonOperators\",stage=\"ALPHA\"} 0\n",
        Some(false)
    )]
    #[case::labels_in_another_order(
        "kubernetes_feature_enabled{stage=\"ALPHA\",name=\"TaintTolerationComparisonOperators\"} 1 1700000000",
        Some(true)
    )]
    #[case::does_not_know_it(
        "kubernetes_feature_enabled{name=\"Other\",stage=\"\"} 1",
        Some(false)
    )]
    #[case::another_with_its_name_inside(
        "kubernetes_feature_enabled{name=\"XTaintTolerationComparisonOperators\",stage=\"\"} 1",
        Some(false)
    )]
    #[case::lists_none("process_cpu_seconds_total 1", None)]
    #[case::broken(
        "kubernetes_feature_enabled{name=\"TaintTolerationComparisonOperators\"} x",
        None
    )]
    #[case::nothing("", None)]
    fn metrics_are_read(#[case] text: &str, #[case] want: Option<bool>) {
        assert_eq!(from_metrics(text), want);
    }

    #[rstest]
    #[case::none("kube-scheduler --config=x", None)]
    #[case::on(
        "kube-scheduler --feature-gates=A=false,TaintTolerationComparisonOperators=true",
        Some(true)
    )]
    #[case::apart(
        "kube-scheduler --feature-gates TaintTolerationComparisonOperators=true",
        Some(true)
    )]
    #[case::last_word(
        "--feature-gates=TaintTolerationComparisonOperators=true --feature-gates=TaintTolerationComparisonOperators=false",
        Some(false)
    )]
    #[case::all_alpha("--feature-gates=AllAlpha=true", Some(true))]
    #[case::all_alpha_but_it(
        "--feature-gates=TaintTolerationComparisonOperators=false,AllAlpha=true",
        Some(false)
    )]
    #[case::another("--feature-gates=Other=true", None)]
    fn command_lines_are_read(#[case] line: &str, #[case] want: Option<bool>) {
        assert_eq!(from_command_line(line.split(' ')), want);
    }

    #[rstest]
    #[case("v1.36.2", Some(36))]
    #[case("v1.34.1-eks-9", Some(34))]
    #[case("1.37+", Some(37))]
    #[case("v1.30.0+k3s1", Some(30))]
    #[case("2.0", None)]
    #[case("", None)]
    fn versions_are_read(#[case] version: &str, #[case] want: Option<u32>) {
        assert_eq!(minor(version), want);
    }

    #[test]
    fn later_defaults_are_not_known() {
        assert_eq!(default_of("v1.37.0"), Some(false));
        assert_eq!(default_of("v1.38.0"), None);
        assert!(is_too_old("v1.34.9") && !is_too_old("v1.35.0") && !is_too_old("?"));
    }

    #[test]
    fn one_that_lacks_it_counts_and_one_that_is_unknown() {
        let on = || ("a".to_owned(), Seen::new(true, "metrics"));
        let off = || ("b".to_owned(), Seen::new(false, "command line"));
        let unknown = || ("c".to_owned(), Seen::unknown("403"));
        assert_eq!(all(&[on(), unknown(), off()]).gate, Gate::Off);
        assert_eq!(all(&[on(), off()]).how, "1 of 2: b (command line)");
        assert_eq!(all(&[on(), unknown()]), Seen::unknown("1 of 2: c (403)"));
        assert_eq!(all(&[on(), on()]), Seen::new(true, "all 2 (metrics)"));
        assert_eq!(all(&[]).gate, Gate::Absent);
    }
}
