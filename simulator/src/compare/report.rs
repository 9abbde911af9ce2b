//! The report: one HTML page that needs nothing else, with the plots and the tables.
//!
//! For each trace: attainment and cost against the lead time; for each lead time the cost frontier,
//! a table, and replicas and attainment over time of the policies that matter. Peers are drawn
//! faint and ours and the bound strong, and every mark tells its name when pointed at.

use std::fmt::Write as _;

use pd_core::Role;

use super::table::{attains, by_merit};
use super::{Cell, Row};
use crate::autoscaler::Variant;
use crate::chart::{Axis, Chart, STYLE, escaped};
use crate::simulate::options::PolicyName;

/// Most times the bound that frontier plots reach to; what costs more is drawn at the edge.
const FRONTIER_COST_MAX: f64 = 4.0;

/// Attainments on the axis of a frontier plot, by their nines.
static NINES: [(f64, &str); 6] = [
    (std::f64::consts::LOG10_2, "50"),
    (1.0, "90"),
    (1.301_03, "95"),
    (2.0, "99"),
    (3.0, "99.9"),
    (4.0, "99.99"),
];

/// The page.
pub(super) fn page(cells: &[Cell]) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Policies compared</title><style>{STYLE}</style><body><main>\
         <h1>Policies compared</h1><p>Attainment is the share of all requests within both latency limits. \
         GPU-hours count while a replica starts, serves and drains. The bound is the clairvoyant plan that \
         holds the objective in every minute. Tuned ones had their settings searched on the very trace.</p><p>\
         <span class=\"key us\">pdautoscaler</span> <span class=\"key bound\">the bound, carried out</span> \
         <span class=\"key tuned\">tuned</span> <span class=\"key peer\">peers as shipped, static peak</span> \
         <span class=\"key command\">command</span></p>"
    );
    for cells in groups(cells, |a, b| a.row.trace == b.row.trace) {
        trace(&mut html, &cells);
    }
    html.push_str("</main></body></html>\n");
    html
}

/// Cells in groups, in order of first appearance.
fn groups<'a>(
    cells: impl IntoIterator<Item = &'a Cell>,
    same: impl Fn(&Cell, &Cell) -> bool,
) -> Vec<Vec<&'a Cell>> {
    let mut groups: Vec<Vec<&Cell>> = Vec::new();
    for cell in cells {
        match groups.iter_mut().find(|group| same(group[0], cell)) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    groups
}

fn class(policy: PolicyName) -> &'static str {
    match policy {
        PolicyName::Pdautoscaler => "us",
        PolicyName::Clairvoyant | PolicyName::ClairvoyantOverall | PolicyName::SimulatedOracle => {
            "bound"
        }
        PolicyName::StaticPeak | PolicyName::StaticHindsight => "static",
        PolicyName::Command => "command",
        PolicyName::PdautoscalerTuned | PolicyName::Peer(_, Variant::Tuned) => "tuned",
        PolicyName::Peer(_, Variant::Default) => "peer",
    }
}

fn percent(cell: &Cell) -> f64 {
    cell.row.outcome.attainment_percent.unwrap_or(0.0)
}

fn goal(cell: &Cell) -> f64 {
    f64::from(cell.row.outcome.attainment_goal_percent)
}

// Writing to a string cannot fail.
fn trace(html: &mut String, cells: &[&Cell]) {
    let Some(first) = cells.first() else { return };
    let _ = write!(html, "<section><h2>{}</h2>", escaped(&first.row.trace));
    let by_lead = groups(cells.iter().copied(), |a, b| {
        let (a, b) = (a.row.outcome.lead_seconds, b.row.outcome.lead_seconds);
        a.total_cmp(&b).is_eq()
    });
    if by_lead.len() > 1 {
        let _ = write!(
            html,
            "<div class=\"pair\"><figure>{}<figcaption>Attainment by lead time</figcaption></figure>\
             <figure>{}<figcaption>GPU-hours over the bound by lead time</figcaption></figure></div>",
            cliff(cells, "attainment, %", percent, true),
            cliff(cells, "x bound", over, false)
        );
    }
    for cells in by_lead {
        lead(html, &cells);
    }
    html.push_str("</section>");
}

fn over(cell: &Cell) -> f64 {
    cell.row
        .outcome
        .gpu_hours_over_clairvoyant
        .unwrap_or(f64::NAN)
}

/// One line per policy over the lead times.
fn cliff(cells: &[&Cell], label: &'static str, value: fn(&Cell) -> f64, with_goal: bool) -> String {
    let leads = cells.iter().map(|cell| cell.row.outcome.lead_seconds);
    let goals = cells.iter().filter(|_| with_goal).map(|cell| goal(cell));
    let values = cells.iter().map(|cell| value(cell)).chain(goals);
    let mut chart = Chart::new(
        Axis::around("lead time, s", leads),
        Axis::around(label, values),
    );
    if let Some(first) = cells.first().filter(|_| with_goal) {
        chart.level(goal(first));
    }
    let by_policy = groups(cells.iter().copied(), |a, b| {
        a.row.outcome.policy == b.row.outcome.policy
    });
    for line in by_policy {
        let policy = line[0].row.outcome.policy;
        let point = |cell: &&Cell| {
            let value = value(cell);
            (
                cell.row.outcome.lead_seconds,
                value.is_finite().then_some(value),
            )
        };
        chart.line(class(policy), policy.as_str(), line.iter().map(point));
    }
    chart.end()
}

fn lead(html: &mut String, cells: &[&Cell]) {
    let mut cells = cells.to_vec();
    cells.sort_by(|a, b| by_merit(&a.row, &b.row));
    let Some(first) = cells.first() else { return };
    let seconds = first.row.outcome.lead_seconds;
    let _ = write!(
        html,
        "<h3>Lead {seconds} s</h3><div class=\"pair\"><figure>{}<figcaption>Cost over the bound and attainment, \
         by its nines: up and to the left is better; what is beyond is drawn at the edge</figcaption></figure>{}</div>",
        frontier(&cells),
        table(&cells)
    );
    let shown = cells
        .iter()
        .filter(|cell| matches!(class(cell.row.outcome.policy), "us" | "bound" | "command"))
        .chain(
            cells
                .iter()
                .filter(|cell| class(cell.row.outcome.policy) == "tuned")
                .take(2),
        );
    html.push_str("<details><summary>Replicas and attainment over time</summary>");
    for cell in shown {
        over_time(html, cell);
    }
    html.push_str("</details>");
}

/// 1 for 90 %, 2 for 99 %, 3 for 99.9 %.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).max(1e-5).log10()
}

fn frontier(cells: &[&Cell]) -> String {
    let most = cells.iter().map(|cell| over(cell)).fold(1.2, f64::max);
    let mut chart = Chart::new(
        Axis {
            label: "GPU-hours over the bound".to_owned(),
            low: 0.5,
            high: most.min(FRONTIER_COST_MAX) + 0.1,
            marks: Vec::new(),
        },
        Axis {
            label: "attainment, %".to_owned(),
            low: 0.2,
            high: 4.3,
            marks: NINES.map(|(at, text)| (at, text.to_owned())).to_vec(),
        },
    );
    if let Some(first) = cells.first() {
        chart.level(nines(goal(first)));
    }
    for cell in cells {
        let policy = cell.row.outcome.policy;
        let class = class(policy);
        let named = matches!(class, "us" | "static" | "command");
        let nines = nines(percent(cell));
        chart.dot(class, policy.as_str(), over(cell), nines, named);
    }
    chart.end()
}

fn table(cells: &[&Cell]) -> String {
    let mut html = "<table><tr><th>policy<th>attainment<th>worst hour<th>GPU-hours<th>x bound<th>\
                    changes<th>reversals</tr>"
        .to_owned();
    for cell in cells {
        let row: &Row = &cell.row;
        let outcome = &row.outcome;
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let _ = write!(
            html,
            "<tr class=\"{}{}\"><td>{}<td>{}<td>{}<td>{:.1}<td>{}<td>{}<td>{}</tr>",
            class(outcome.policy),
            if attains(outcome) { "" } else { " missed" },
            outcome.policy,
            number(outcome.attainment_percent),
            number(outcome.worst_hour_attainment_percent),
            outcome.gpu_hours,
            number(outcome.gpu_hours_over_clairvoyant),
            outcome.scale_events,
            outcome.reversals,
        );
    }
    html.push_str("</table>");
    html
}

fn over_time(html: &mut String, cell: &Cell) {
    let timeline = &cell.timeline;
    let hours = timeline.hours();
    let of = |role| timeline.replicas(role);
    let (prefill, decode) = (of(Role::Prefill), of(Role::Decode));
    let all = prefill.iter().chain(&decode).copied();
    let x = || Axis::around("hours", hours.iter().copied());
    let mut replicas = Chart::new(x(), Axis::around("replicas", all.chain([0.0])));
    for (class, name, values) in [
        ("prefill", "prefill", &prefill),
        ("decode", "decode", &decode),
    ] {
        let points = hours
            .iter()
            .copied()
            .zip(values.iter().map(|value| Some(*value)));
        replicas.line(class, name, points);
    }
    let attained = timeline.attainment_percent();
    let shown = attained
        .iter()
        .flatten()
        .copied()
        .chain([goal(cell), 100.0]);
    let mut attainment = Chart::new(x(), Axis::around("attainment, %", shown));
    attainment.level(goal(cell));
    attainment.line(
        "us",
        "attainment",
        hours.iter().copied().zip(attained.iter().copied()),
    );
    let _ = write!(
        html,
        "<div class=\"pair\"><figure>{}<figcaption>{}: replicas that hold GPUs, <span class=\"prefill\">prefill</span> \
         and <span class=\"decode\">decode</span></figcaption></figure><figure>{}<figcaption>{}: attainment by time of \
         arrival</figcaption></figure></div>",
        replicas.end(),
        cell.row.outcome.policy,
        attainment.end(),
        cell.row.outcome.policy
    );
}
