//! The options of `pd-sim sweep`: those of `pd-sim simulate`, and what is varied.

use std::path::PathBuf;

use crate::batch::cores;
use crate::simulate;

/// Most values of one parameter.
const VALUES_MAX: u64 = 1_000;

/// Options as the user gave them.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "sweep")]
pub struct SweepOptions {
    /// A parameter and its values, once or twice: `lead=0s,60s,120s`, `seed=1..5` (both ends),
    /// `rate`, `copies`, `time-scale`, `ttft`, `tpot`, `attainment`, `tolerance`, `budget`,
    /// `interval`, `constant` (`all` is each of the product's constants by 30 %), or a field of the
    /// scenario such as `profile.prefixHitRatio=0,0.5`
    #[arg(long, value_name = "NAME=VALUES", required = true, value_parser = vary)]
    pub vary: Vec<Vary>,
    /// Runs at once; without, one per core
    #[arg(long, value_name = "N", hide_default_value = true, default_value_t = cores())]
    pub jobs: usize,
    /// File for a self-contained HTML report with plots
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The options that all points share.
    #[command(flatten)]
    pub simulate: simulate::options::SimulateOptions,
}

/// A parameter and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vary {
    /// The parameter.
    pub name: String,
    /// Its values as given, one or more.
    pub values: Vec<String>,
}

fn vary(text: &str) -> Result<Vary, String> {
    let wanted = || "give a name and values, such as lead=0s,60s,120s or seed=1..5".to_owned();
    let (name, values) = text.split_once('=').ok_or_else(wanted)?;
    let values: Vec<String> = match values.split_once("..") {
        Some((low, high)) => range(low, high).ok_or_else(wanted)?,
        None => values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect(),
    };
    let values = if name.trim() == "constant" && values == ["all"] {
        every_constant()
    } else {
        values
    };
    if name.is_empty() || values.iter().any(String::is_empty) {
        return Err(wanted());
    }
    Ok(Vary {
        name: name.trim().to_owned(),
        values,
    })
}

/// No constant, and each of them 30 % smaller and larger.
fn every_constant() -> Vec<String> {
    let names = simulate::options::constants();
    let around = names
        .iter()
        .flat_map(|name| ["0.7", "1.3"].map(|factor| format!("{name}*{factor}")));
    std::iter::once("none".to_owned()).chain(around).collect()
}

/// Whole numbers from `low` to `high`, both included.
fn range(low: &str, high: &str) -> Option<Vec<String>> {
    let (low, high): (u64, u64) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    let count = high.checked_sub(low)?;
    (count < VALUES_MAX).then(|| (low..=high).map(|value| value.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("lead=0s, 60s", "lead", &["0s", "60s"])]
    #[case("seed=3..5", "seed", &["3", "4", "5"])]
    #[case("budget=none,64", "budget", &["none", "64"])]
    fn values_are_listed_or_counted(
        #[case] text: &str,
        #[case] name: &str,
        #[case] values: &[&str],
    ) {
        let vary = vary(text).unwrap();
        assert_eq!(vary.name, name);
        assert_eq!(vary.values, values);
    }

    #[rstest]
    #[case("lead")]
    #[case("=1,2")]
    #[case("lead=")]
    #[case("lead=1,,2")]
    #[case("seed=5..1")]
    #[case("seed=1..5000")]
    #[case("ttft=1s..2s")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert!(vary(text).unwrap_err().contains("lead=0s,60s,120s"));
    }
}
