//! How well classes of margin put nodes in the order of their exact margins, as the tables of
//! `docs/numeric-tolerations-measured.md` say. The thresholds were chosen by the first group of
//! distributions; the second shows what they do elsewhere.
//!
//! Kendall's tau-b: 1 if every pair of nodes that differ is in the same order, 0 if the order says
//! nothing, and less than 1 also where nodes that differ share a class. Nodes are quantiles of a
//! distribution, so that nothing is drawn by chance. Where the pod has two numbers, the exact order
//! is the extender's: margins of each key stretched over the nodes, and of these the weaker.
//!
//! `PD_UPDATE=1` writes the tables again.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use pd_tolerations::{
    Effect, ExtendedToleration, Rule, Taint,
    extension::{NumericOperator, ParsedTaint},
    mirror::{Margin, PreferredTerm, Requirement, labels, prefer},
};

/// Nodes of each case.
const NODES: u32 = 120;
/// Steps of the extender's scores.
const POINTS: u64 = 10;
/// Coprime to [`NODES`]: the node whose quantile of the second key a node has.
const STRIDE: u32 = 73;

/// Values of nodes, and bounds of pods on them.
struct Case {
    name: &'static str,
    operator: NumericOperator,
    bounds: &'static [&'static str],
    quantile: fn(f64) -> f64,
}

const fn case(
    name: &'static str,
    operator: NumericOperator,
    bounds: &'static [&'static str],
    quantile: fn(f64) -> f64,
) -> Case {
    Case {
        name,
        operator,
        bounds,
        quantile,
    }
}

fn logit(share: f64) -> f64 {
    (share / (1.0 - share)).ln()
}

const CHOSEN_BY: [Case; 4] = [
    case(
        "shares of 1000, even from 900 to 1000",
        NumericOperator::Gt,
        &["900", "920", "950", "970", "985"],
        |share| 900.0 + 100.0 * share,
    ),
    case(
        "shares of 10000, one to four nines evenly",
        NumericOperator::Gt,
        &["9000", "9500", "9900", "9990"],
        |share| 10_000.0 * (1.0 - 10_f64.powf(-1.0 - 3.0 * share)),
    ),
    case(
        "costs, log-even from 1 to 100",
        NumericOperator::Lt,
        &["5", "7", "20", "50", "100"],
        |share| 10_f64.powf(2.0 * share),
    ),
    case(
        "sizes, log-even from 1 to 1,000,000",
        NumericOperator::Gt,
        &["0", "5", "40", "300", "2000"],
        |share| 10_f64.powf(6.0 * share),
    ),
];

const PROVED_ON: [Case; 8] = [
    case(
        "shares of 1000, logistic around 970",
        NumericOperator::Gt,
        &["930", "950", "960", "980"],
        |share| (970.0 + 8.0 * logit(share)).min(1000.0),
    ),
    case(
        "percent, rising from 80 to 100",
        NumericOperator::Gt,
        &["80", "90", "95"],
        |share| 80.0 + 20.0 * share.sqrt(),
    ),
    case(
        "shares of 10000, most near the top",
        NumericOperator::Gt,
        &["9000", "9500", "9900"],
        |share| 10_000.0 * (1.0 - 0.1 * (1.0 - share).powi(3)),
    ),
    case(
        "shares of 1000 within a range",
        NumericOperator::Range,
        &["900..990", "920..960", "945..955"],
        |share| 900.0 + 100.0 * share,
    ),
    case(
        "hours between failures, exponential around 500",
        NumericOperator::Gt,
        &["0", "24", "100", "700"],
        |share| -500.0 * (1.0 - share).ln(),
    ),
    case(
        "GPU memory: 16, 24, 40, 48, 80, 96, 141 and 192 GB",
        NumericOperator::Gt,
        &["15", "23", "39", "79"],
        |share| {
            let sizes = [16.0, 24.0, 40.0, 48.0, 80.0, 96.0, 141.0, 192.0];
            let past = |part: usize| f64::from(u32::try_from(part).unwrap()) / 8.0 <= share;
            sizes[(0..8).filter(|part| past(*part)).count() - 1]
        },
    ),
    case(
        "costs, logistic around 40",
        NumericOperator::Lt,
        &["20", "40", "60", "100"],
        |share| (40.0 + 7.0 * logit(share)).max(0.0),
    ),
    case(
        "latencies, log-logistic around 1100",
        NumericOperator::Lt,
        &["1000", "3000", "10000"],
        |share| (7.0 + 0.4 * logit(share)).exp(),
    ),
];

/// Pairs of the cases above, by group and place, of which a pod has a number each.
const PAIRS: [[(bool, usize); 2]; 5] = [
    [(true, 0), (true, 2)],
    [(true, 1), (true, 2)],
    [(false, 0), (false, 6)],
    [(false, 1), (false, 2)],
    [(false, 5), (false, 6)],
];

impl Case {
    fn rule(&self, key: &str, bound: &str) -> Rule {
        let toleration = ExtendedToleration {
            key: key.to_owned(),
            operator: self.operator,
            value: bound.to_owned(),
            effect: Effect::NoExecute,
            toleration_seconds: None,
            must_be_present: false,
            index: None,
        };
        Rule::extended(&toleration).unwrap()
    }

    /// The taint of the node at a place, counted from 0.
    fn taint(&self, key: &str, place: u32) -> Taint {
        let share = (f64::from(place) + 0.5) / f64::from(NODES);
        let value = format!("{:.0}", (self.quantile)(share));
        Taint::new(key, value, Effect::NoExecute)
    }
}

fn margin(rule: &Rule, taint: &Taint) -> Option<u64> {
    rule.margin(&ParsedTaint::from(taint.clone()))
}

fn meets(one: &Requirement, labels: &BTreeMap<String, String>) -> bool {
    let number = |text: &String| text.parse::<i64>().unwrap();
    let Some(value) = labels.get(&one.key) else {
        return one.operator == "DoesNotExist";
    };
    let bound = one.values.first().unwrap();
    match one.operator.as_str() {
        "Gt" => number(value) > number(bound),
        "Lt" => number(value) < number(bound),
        operator => {
            assert_eq!(operator, "In");
            value == bound
        }
    }
}

/// The class of a node: the sum of weights that kube-scheduler's `NodeAffinity` plugin makes.
fn class(terms: &[PreferredTerm], taints: &[Taint]) -> u64 {
    let labels = labels(taints);
    let matches = |term: &&PreferredTerm| {
        let mut all = term.preference.match_expressions.iter();
        all.all(|one| meets(one, &labels))
    };
    let weights = terms.iter().filter(matches).map(|term| term.weight);
    u64::try_from(weights.sum::<i64>()).unwrap()
}

/// Margins as shares of their range; they are compared as fractions of one whole.
fn stretched(margins: &[u64]) -> (Vec<u128>, u128) {
    let least = margins.iter().min().copied().unwrap_or(0);
    let whole = margins.iter().max().copied().unwrap_or(0) - least;
    let parts = margins.iter().map(|margin| u128::from(margin - least));
    (parts.collect(), u128::from(whole))
}

/// Kendall's tau-b; nothing if all nodes are alike by `exact`.
fn tau(exact: &[u128], by: &[u64]) -> Option<f64> {
    let (mut agree, mut pairs, mut exact_differ, mut by_differ) = (0_i32, 0_u32, 0_u32, 0_u32);
    for one in 0..exact.len() {
        for other in 0..one {
            let want = exact[one].cmp(&exact[other]);
            let got = by[one].cmp(&by[other]);
            pairs += 1;
            exact_differ += u32::from(want.is_ne());
            by_differ += u32::from(got.is_ne());
            agree += i32::from(want.is_ne() && want == got);
            agree -= i32::from(want.is_ne() && want == got.reverse());
        }
    }
    assert!(pairs > 0, "fewer than two nodes fit");
    if exact_differ == 0 {
        return None;
    }
    let scale = (f64::from(exact_differ) * f64::from(by_differ)).sqrt();
    Some(if by_differ == 0 {
        0.0
    } else {
        f64::from(agree) / scale
    })
}

fn mean(all: &[f64]) -> f64 {
    all.iter().sum::<f64>() / f64::from(u32::try_from(all.len()).unwrap())
}

/// Mean taus over the bounds of a case: of the classes, and of the extender's points.
fn of_one(case: &Case) -> (usize, f64, f64) {
    let (mut by_class, mut by_points, mut most_terms) = (Vec::new(), Vec::new(), 0);
    for bound in case.bounds {
        let rule = case.rule("sla", bound);
        let terms = prefer(None, std::slice::from_ref(&rule), Margin::Most).unwrap();
        most_terms = terms.len().max(most_terms);
        let taints = (0..NODES).map(|place| case.taint("sla", place));
        let fitting = taints.filter_map(|taint| Some((margin(&rule, &taint)?, taint)));
        let (margins, taints): (Vec<u64>, Vec<Taint>) = fitting.unzip();
        let (exact, whole) = stretched(&margins);
        let classes: Vec<u64> = taints
            .iter()
            .map(|taint| class(&terms, std::slice::from_ref(taint)))
            .collect();
        let points = exact
            .iter()
            .map(|part| u64::try_from(part * u128::from(POINTS) / whole.max(1)).unwrap());
        let points: Vec<u64> = points.collect();
        by_class.extend(tau(&exact, &classes));
        by_points.extend(tau(&exact, &points));
    }
    (most_terms, mean(&by_class), mean(&by_points))
}

/// The mean tau of the classes over the bounds of two cases, each with a key of its own.
fn of_two(one: &Case, other: &Case) -> f64 {
    let mut taus = Vec::new();
    for first in one.bounds {
        for second in other.bounds {
            let rules = [one.rule("sla", first), other.rule("cost", second)];
            let terms = prefer(None, &rules, Margin::Most).unwrap();
            let taints = (0..NODES).map(|place| {
                let second = (place * STRIDE + 11) % NODES;
                [one.taint("sla", place), other.taint("cost", second)]
            });
            let fitting = taints.filter_map(|taints| {
                let [sla, cost] = [0, 1].map(|key| margin(&rules[key], &taints[key]));
                Some(((sla?, cost?), taints))
            });
            let (margins, taints): (Vec<(u64, u64)>, Vec<[Taint; 2]>) = fitting.unzip();
            if margins.len() < 2 {
                continue;
            }
            let (sla, cost): (Vec<u64>, Vec<u64>) = margins.into_iter().unzip();
            let ((sla, sla_whole), (cost, cost_whole)) = (stretched(&sla), stretched(&cost));
            // Of equal margins all are the best.
            let share = |part: u128, whole: u128, other: u128| match whole {
                0 => other.max(1),
                _ => part * other.max(1),
            };
            let whole = |whole: u128| whole.max(1);
            let weaker: Vec<u128> = sla
                .iter()
                .zip(&cost)
                .map(|(sla, cost)| {
                    let sla = share(*sla, sla_whole, whole(cost_whole));
                    sla.min(share(*cost, cost_whole, whole(sla_whole)))
                })
                .collect();
            let classes: Vec<u64> = taints.iter().map(|both| class(&terms, both)).collect();
            taus.extend(tau(&weaker, &classes));
        }
    }
    mean(&taus)
}

fn tables() -> String {
    let mut page = String::from(
        "| Values of nodes, one number | Bounds | Terms | tau of classes | tau of the extender's points |\n|---|---|---|---|---|\n",
    );
    for (group, cases) in [("chosen by", &CHOSEN_BY[..]), ("proved on", &PROVED_ON[..])] {
        let taus: Vec<(usize, f64, f64)> = cases.iter().map(of_one).collect();
        for (case, (terms, classes, points)) in cases.iter().zip(&taus) {
            let operator = case.operator.as_str();
            let bounds = case.bounds.join(", ");
            let name = case.name;
            let line = format!(
                "| {name} | `{operator}` {bounds} | {terms} | {classes:.2} | {points:.2} |"
            );
            writeln!(page, "{line}").unwrap();
        }
        let classes: Vec<f64> = taus.iter().map(|taus| taus.1).collect();
        let points: Vec<f64> = taus.iter().map(|taus| taus.2).collect();
        let (classes, points) = (mean(&classes), mean(&points));
        writeln!(
            page,
            "| **mean of those that the thresholds were {group}** | | | **{classes:.2}** | **{points:.2}** |"
        )
        .unwrap();
    }
    page.push_str("\n| Two numbers | tau of the sum of classes |\n|---|---|\n");
    for pair in PAIRS {
        let [one, other] = pair.map(|(is_chosen_by, place)| {
            if is_chosen_by {
                &CHOSEN_BY[place]
            } else {
                &PROVED_ON[place]
            }
        });
        let tau = of_two(one, other);
        writeln!(page, "| {}; {} | {tau:.2} |", one.name, other.name).unwrap();
    }
    page
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the crate reads no files, but this test reads a page"
)]
fn the_page_has_the_figures() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/numeric-tolerations-measured.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- agreement begins -->\n", "<!-- agreement ends -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (there, after) = rest.split_once(end).unwrap();
    let made = format!("\n{}\n", tables());
    if std::env::var("PD_UPDATE").is_ok() {
        std::fs::write(&path, format!("{before}{begin}{made}{end}{after}")).unwrap();
    } else {
        assert_eq!(
            there, made,
            "run PD_UPDATE=1 cargo test -p pd-tolerations --test agreement"
        );
    }
}

#[test]
fn classes_never_contradict_the_margins_of_one_number() {
    for case in CHOSEN_BY.iter().chain(&PROVED_ON) {
        for bound in case.bounds {
            let rule = case.rule("sla", bound);
            let terms = prefer(None, std::slice::from_ref(&rule), Margin::Most).unwrap();
            let nodes = (0..NODES).map(|place| case.taint("sla", place));
            let nodes = nodes.filter_map(|taint| {
                let margin = margin(&rule, &taint)?;
                Some((margin, class(&terms, std::slice::from_ref(&taint))))
            });
            let mut nodes: Vec<(u64, u64)> = nodes.collect();
            nodes.sort_unstable();
            assert!(nodes.is_sorted_by_key(|(_, class)| *class), "{}", case.name);
        }
    }
}

#[test]
fn tau_is_that_of_its_definition() {
    let close = |tau: Option<f64>, want: f64| (tau.unwrap() - want).abs() < 1e-12;
    assert!(close(tau(&[1, 2, 3], &[1, 2, 3]), 1.0));
    assert!(close(tau(&[1, 2, 3], &[3, 2, 1]), -1.0));
    // One pair of six is tied.
    assert!(close(
        tau(&[1, 2, 3, 4], &[1, 2, 2, 3]),
        5.0 / 30_f64.sqrt()
    ));
    assert!(close(tau(&[1, 2], &[5, 5]), 0.0));
    assert_eq!(tau(&[1, 1], &[1, 2]), None);
}
