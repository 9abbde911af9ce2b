//! The page of one object: its numbers, its last hour, and the record of its last decision.

use kube::ResourceExt as _;
use pd_api::{
    age::age,
    explanation::{explanation, outdated, stages, unapplied, undecided},
    v1alpha1::{PDAutoscaler, PDAutoscalerStatus, RoleStatus},
    wording::{limit, sentence, target},
};
use pd_core::Role;

use super::{
    chart::{Line, Scale, draw},
    frame::Page,
    history::Point,
    html::Html,
    list::{attainment_lines, ready, role_lines},
    query::Query,
    source::Source,
    view::Row,
};
use crate::Guarded;

/// Points between two rows of the table of a chart: five minutes.
const TABLE_STEP: usize = 10;

/// The page of `object`.
pub(super) fn page(source: &Source, query: &Query, object: &Guarded) -> Page {
    let row = Row::of(object);
    let mut html = Html::default();
    heading(&mut html, query, &row);
    match &object.0 {
        Ok(object) => {
            tiles(&mut html, &row, object);
            charts(&mut html, &row, &source.points(&row.uid));
            why(&mut html, source, object);
            conditions(&mut html, source, object);
            spec(&mut html, object);
        }
        Err(_) => html.add(
            "<section class=\"card\"><h2>It cannot be decoded</h2><p>{}</p></section>\n",
            &[&sentence(&row.ready.message)],
        ),
    }
    Page {
        title: format!("{} in {}", row.name, row.namespace),
        root: "../../",
        address: row.name,
        content: html,
    }
}

/// The page of an object that is not there.
pub(super) fn missing(namespace: &str, name: &str) -> Page {
    let mut html = Html::default();
    html.add(
        "<section class=\"card empty\"><h1>Not here</h1><p>This controller handles no PDAutoscaler \
         {} in namespace {}. It may have been deleted, or another controller handles it. \
         <a href=\"../../\">All PDAutoscalers</a></p></section>\n",
        &[&name, &namespace],
    );
    Page {
        title: "Not here".to_owned(),
        root: "../../",
        address: String::new(),
        content: html,
    }
}

fn heading(html: &mut Html, query: &Query, row: &Row) {
    let kept = Query {
        refresh: query.refresh,
        ..Query::default()
    };
    let back = format!("../../{}", kept.text());
    let found = Query {
        search: format!("{}/", row.namespace),
        ..kept
    };
    let namespace = format!("../../{}", found.text());
    html.add(
        "<nav class=\"path\" aria-label=\"Path\"><a href=\"{}\">PDAutoscalers</a> / <a href=\"{}\">{}</a></nav>\n\
         <div class=\"heading\"><h1>{}</h1><span class=\"pill\">{}</span>",
        &[&back, &namespace, &row.namespace, &row.name, &row.mode.unwrap_or("not decoded")],
    );
    ready(html, row);
    html.add("</div>\n", &[]);
    if !row.is_ready() {
        html.add(
            "<p class=\"notice\">{}</p>\n",
            &[&sentence(&row.ready.message)],
        );
    }
}

fn tiles(html: &mut Html, row: &Row, object: &PDAutoscaler) {
    let status = object.status.clone().unwrap_or_default();
    html.add(
        "<section id=\"figures\" aria-label=\"Key figures\"><dl class=\"tiles\">\n",
        &[],
    );
    role_tile(html, "Prefill", "p", row.prefill.as_ref());
    role_tile(html, "Decode", "d", row.decode.as_ref());
    if let Some(ratio) = &status.ratio {
        let band = ratio.band.as_deref().unwrap_or("follows the traffic");
        tile(
            html,
            "P:D ratio",
            ratio.current.as_deref().unwrap_or("–"),
            band,
        );
    }
    if let Some(gpus) = &status.gpus {
        let desired = gpus.desired.unwrap_or(gpus.current);
        let budget = gpus
            .budget
            .map_or_else(String::new, |budget| format!(", budget {budget}"));
        tile(
            html,
            "GPUs",
            &gpus.current.to_string(),
            &format!("{desired} desired{budget}"),
        );
    }
    let percent = row.attainment_percent.as_ref();
    let percent = percent.map_or_else(|| "–".to_owned(), |percent| format!("{percent} %"));
    let goal = row.objective_percent.unwrap_or_default();
    let attainment = status.attainment.clone().unwrap_or_default();
    let left = attainment.error_budget_left_percent;
    let left = left.map_or_else(String::new, |left| {
        format!(", {left} % of error budget left")
    });
    let more = format!("objective {goal} %{left}");
    let is_missed = row.objective_met == Some(false);
    tile_of(
        html,
        if is_missed { "tile miss" } else { "tile" },
        "Attainment",
        &percent,
        &more,
    );
    let bottleneck = row.bottleneck.as_deref().unwrap_or("–");
    let limited = row.limited_by.as_ref();
    let limited = limited.map_or_else(|| "not limited".to_owned(), |by| format!("limited by {by}"));
    tile_of(html, "tile word", "Bottleneck", bottleneck, &limited);
    html.add("</dl></section>\n", &[]);
}

fn tile(html: &mut Html, name: &'static str, value: &str, more: &str) {
    tile_of(html, "tile", name, value, more);
}

fn tile_of(html: &mut Html, class: &'static str, name: &'static str, value: &str, more: &str) {
    html.add(
        "<div class=\"{}\"><dt>{}</dt><dd>{}<span class=\"under\">{}</span></dd></div>\n",
        &[&class, &name, &value, &more],
    );
}

fn role_tile(
    html: &mut Html,
    name: &'static str,
    class: &'static str,
    status: Option<&RoleStatus>,
) {
    let Some(status) = status else {
        tile(html, name, "–", "nothing is known yet");
        return;
    };
    let desired = status.desired_replicas.unwrap_or(status.current_replicas);
    html.add(
        "<div class=\"tile\"><dt>{}</dt><dd><span class=\"{}\">{}</span> <small>desired</small>\
         <span class=\"under\">{} ready, {} starting, {} leaving</span></dd></div>\n",
        &[
            &name,
            &class,
            &desired,
            &status.ready_replicas,
            &status.starting_replicas,
            &status.terminating_replicas,
        ],
    );
}

fn charts(html: &mut Html, row: &Row, points: &[(i64, Point)]) {
    html.add(
        "<section class=\"card\" id=\"part-hour\" aria-labelledby=\"hour\"><h2 id=\"hour\">Last hour</h2>\n",
        &[],
    );
    if points.is_empty() {
        html.add(
            "<p class=\"muted\">There are no points yet: this controller adds one every half minute, \
             for up to 10,000 objects.</p></section>\n",
            &[],
        );
        return;
    }
    let all: Vec<Point> = points.iter().map(|(_, point)| *point).collect();
    html.add("<div class=\"charts\">\n", &[]);
    let replicas = |html: &mut Html, name: &'static str, title: &'static str, role: Role| {
        let lines = role_lines(role, &all);
        let scale = Scale::of_replicas(&lines);
        let subject = format!("{title} of {}", row.name);
        figure(html, name, title, &subject, scale, &lines, None);
    };
    replicas(html, "prefill", "Prefill replicas", Role::Prefill);
    replicas(html, "decode", "Decode replicas", Role::Decode);
    let lines = attainment_lines(&all);
    let goal = row.objective_percent.map(f64::from);
    let scale = Scale::of_percent(&lines, goal);
    let subject = format!("Percent of requests of {}", row.name);
    figure(
        html,
        "kept",
        "Requests in time, percent",
        &subject,
        scale,
        &lines,
        goal,
    );
    html.add("</div>\n", &[]);
    numbers(html, points);
    html.add("</section>\n", &[]);
}

fn figure(
    html: &mut Html,
    id: &'static str,
    title: &'static str,
    subject: &str,
    scale: Scale,
    lines: &[Line],
    goal: Option<f64>,
) {
    html.add(
        "<figure id=\"chart-{}\"><figcaption><b>{}</b>",
        &[&id, &title],
    );
    for line in lines.iter().rev() {
        html.add(
            "<span class=\"key\"><i class=\"{}\"></i>{}</span>",
            &[&line.class, &line.name],
        );
    }
    if goal.is_some() {
        html.add(
            "<span class=\"key\"><i class=\"goal\"></i>objective</span>",
            &[],
        );
    }
    html.add(
        "</figcaption><div class=\"plot\"><div class=\"ys\" aria-hidden=\"true\"><span>{}</span><span>{}</span><span>{}</span></div>",
        &[&scale.high, &scale.middle(), &scale.low],
    );
    draw(html, "chart", subject, scale, lines, goal);
    html.add(
        "</div><div class=\"xs\" aria-hidden=\"true\"><span>60 min ago</span><span>30</span><span>now</span></div></figure>\n",
        &[],
    );
}

/// The charts as a table, a row for every five minutes, the newest first.
fn numbers(html: &mut Html, points: &[(i64, Point)]) {
    html.add(
        "<details id=\"numbers\"><summary>The same as a table</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Last hour as a table\">\
         <table class=\"numbers\"><thead><tr><th scope=\"col\">UTC</th>",
        &[],
    );
    for name in [
        "P desired",
        "P ready",
        "P needed",
        "D desired",
        "D ready",
        "D needed",
        "TTFT kept",
        "TPOT kept",
    ] {
        html.add("<th scope=\"col\">{}</th>", &[&name]);
    }
    html.add("</tr></thead><tbody>\n", &[]);
    for (at, point) in points.iter().rev().step_by(TABLE_STEP) {
        let time = jiff::Timestamp::from_second(*at).unwrap_or_default();
        html.add(
            "<tr><th scope=\"row\">{}</th>",
            &[&time.strftime("%H:%M:%S")],
        );
        for role in Role::ALL {
            for replicas in [point.desired(), point.ready(), point.need()] {
                let text = replicas[role].map_or_else(|| "–".to_owned(), |count| count.to_string());
                html.add("<td>{}</td>", &[&text]);
            }
        }
        for role in Role::ALL {
            let percent = point.attainment_percent()[role];
            let text = percent.map_or_else(|| "–".to_owned(), |percent| format!("{percent:.2} %"));
            html.add("<td>{}</td>", &[&text]);
        }
        html.add("</tr>\n", &[]);
    }
    html.add("</tbody></table></div></details>\n", &[]);
}

/// The record of the last decision.
fn why(html: &mut Html, source: &Source, object: &PDAutoscaler) {
    html.add(
        "<section class=\"card\" id=\"part-why\" aria-labelledby=\"why\"><h2 id=\"why\">Last decision</h2>\n",
        &[],
    );
    let explanation = explanation(object);
    let Some(decision) = &explanation.last_decision else {
        html.add(
            "<p>Nothing has been decided yet. {}</p></section>\n",
            &[&undecided(object)],
        );
        return;
    };
    html.add(
        "<p class=\"when\"><span class=\"chip\">{}</span> <time datetime=\"{}\">{} ago</time></p>\n<p class=\"outcome\">{}</p>\n",
        &[
            &decision.reason,
            &decision.time.0,
            &age(&decision.time, source.now()),
            &sentence(&decision.message),
        ],
    );
    if let Some(means) = explanation.reason_means {
        html.add("<p>{}</p>\n", &[&means]);
    }
    for remark in [unapplied(object.spec.mode), outdated(object)]
        .into_iter()
        .flatten()
    {
        html.add("<p class=\"remark\">{}</p>\n", &[&remark]);
    }
    html.add("<div class=\"stages\">\n", &[]);
    for stage in stages(decision) {
        html.add("<div class=\"stage\"><h3>{}</h3><ul>", &[&stage.title]);
        for step in &stage.steps {
            html.add(
                "<li>{} <span class=\"chip\">{}</span></li>",
                &[&step.sentence, &step.reason],
            );
        }
        html.add("</ul></div>\n", &[]);
    }
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    html.add(
        "</div>\n<p class=\"muted\">By command: <code>kubectl pd explain {} -n {}</code>, and \
         <code>kubectl pd why-not {} -n {}</code> for what keeps it from scaling.</p></section>\n",
        &[&name, &namespace, &name, &namespace],
    );
}

fn conditions(html: &mut Html, source: &Source, object: &PDAutoscaler) {
    let conditions = object
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    if conditions.is_empty() {
        return;
    }
    html.add(
        "<section class=\"card\" id=\"part-conditions\" aria-labelledby=\"conditions\"><h2 id=\"conditions\">Conditions</h2>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"conditions\"><table class=\"conditions\"><thead><tr>",
        &[],
    );
    for name in ["Condition", "Status", "Reason", "Since", "Message"] {
        html.add("<th scope=\"col\">{}</th>", &[&name]);
    }
    html.add("</tr></thead><tbody>\n", &[]);
    for one in conditions {
        html.add(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td><time datetime=\"{}\">{}</time></td><td>{}</td></tr>\n",
            &[
                &one.type_,
                &one.status,
                &one.reason,
                &one.last_transition_time.0,
                &age(&one.last_transition_time, source.now()),
                &sentence(&one.message),
            ],
        );
    }
    html.add("</tbody></table></div></section>\n", &[]);
}

/// The part of the spec that the numbers are read by.
fn spec(html: &mut Html, object: &PDAutoscaler) {
    let spec = &object.spec;
    let status: PDAutoscalerStatus = object.status.clone().unwrap_or_default();
    let latency = status.latency.unwrap_or_default();
    html.add("<section class=\"card\" id=\"part-spec\" aria-labelledby=\"spec\"><h2 id=\"spec\">Objective and targets</h2><dl class=\"facts\">\n", &[]);
    let mut fact = |name: &'static str, value: &str| {
        html.add("<div><dt>{}</dt><dd>{}</dd></div>\n", &[&name, &value]);
    };
    fact(
        "TTFT",
        &limit(&spec.objective.ttft, latency.ttft_milliseconds),
    );
    fact(
        "TPOT",
        &limit(&spec.objective.tpot, latency.tpot_milliseconds),
    );
    let attainment = &spec.objective.attainment;
    fact(
        "Attainment",
        &format!(
            "{} % of requests over {}",
            attainment.percent, attainment.window
        ),
    );
    for (name, role) in [
        ("Prefill target", &spec.prefill),
        ("Decode target", &spec.decode),
    ] {
        let text = format!(
            "{}, {} to {} replicas",
            target(&role.target),
            role.min_replicas,
            role.max_replicas
        );
        fact(name, &text);
    }
    for (name, word) in [("Engine", &status.engine), ("Gateway", &status.gateway)] {
        if let Some(word) = word {
            fact(name, word);
        }
    }
    html.add("</dl></section>\n", &[]);
}
