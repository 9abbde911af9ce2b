//! The first page: all PDAutoscalers in numbers, and a line for each.

use jiff::Timestamp;
use pd_api::{age::age, v1alpha1::RoleStatus, wording::sentence};
use pd_core::Role;

use super::{
    chart::{Line, Scale, draw},
    frame::Page,
    history::Point,
    html::Html,
    query::{Query, Show},
    source::Source,
    view::{List, PAGE, Row},
};

/// The page that `query` is about.
pub(super) fn page(source: &Source, query: &Query) -> Page {
    let list = List::of(&source.objects(), query);
    let mut html = Html::default();
    html.add("<h1>PDAutoscalers</h1>\n", &[]);
    tiles(&mut html, &list);
    form(&mut html, query);
    if list.items.is_empty() {
        nothing(&mut html, source, &list);
    } else {
        table(&mut html, source, query, &list);
        pages(&mut html, query, &list);
    }
    Page {
        title: "PDAutoscalers".to_owned(),
        root: "",
        address: "./".to_owned(),
        content: html,
    }
}

fn tiles(html: &mut Html, list: &List) {
    let summary = &list.summary;
    html.add(
        "<section id=\"figures\" aria-label=\"All objects in numbers\"><dl class=\"tiles\">\n",
        &[],
    );
    let of_all = |html: &mut Html, name: &'static str, number: usize, is_bad: bool| {
        let class = if is_bad { "tile miss" } else { "tile" };
        html.add(
            "<div class=\"{}\"><dt>{}</dt><dd>{} <small>of {}</small></dd></div>\n",
            &[&class, &name, &number, &summary.objects],
        );
    };
    of_all(
        html,
        "Ready",
        summary.ready,
        summary.ready < summary.objects,
    );
    of_all(
        html,
        "Objective missed",
        summary.objective_missed,
        summary.objective_missed > 0,
    );
    of_all(html, "Limited", summary.limited, false);
    html.add(
        "<div class=\"tile\"><dt>GPUs</dt><dd>{} <small>now, {} desired</small></dd></div>\n</dl></section>\n",
        &[&summary.gpus, &summary.gpus_desired],
    );
}

fn form(html: &mut Html, query: &Query) {
    html.add(
        "<form class=\"find\" id=\"find\" action=\"./\" method=\"get\" role=\"search\">\n\
         <label>Name or namespace <input type=\"search\" name=\"q\" value=\"{}\" autocomplete=\"off\" spellcheck=\"false\"></label>\n\
         <label>Show <select name=\"show\">",
        &[&query.search],
    );
    for show in Show::ALL {
        if show == query.show {
            html.add(
                "<option value=\"{}\" selected>{}</option>",
                &[&show.word(), &show.title()],
            );
        } else {
            html.add(
                "<option value=\"{}\">{}</option>",
                &[&show.word(), &show.title()],
            );
        }
    }
    html.add("</select></label>\n", &[]);
    if !query.refresh {
        html.add(
            "<input type=\"hidden\" name=\"refresh\" value=\"off\">\n",
            &[],
        );
    }
    html.add("<button type=\"submit\">Find</button>\n</form>\n", &[]);
}

fn nothing(html: &mut Html, source: &Source, list: &List) {
    html.add("<section class=\"card empty\" id=\"empty\">", &[]);
    if list.summary.objects > 0 {
        html.add(
            "<h2>None found</h2><p>{} PDAutoscalers are there, and none is as you search. <a href=\"./\">Show all</a></p>",
            &[&list.summary.objects],
        );
    } else if source.trouble().is_some() {
        html.add("<h2>Nothing to show yet</h2><p>PDAutoscalers are shown as soon as they can be read.</p>", &[]);
    } else {
        html.add(
            "<h2>No PDAutoscalers</h2><p>This controller has none to handle yet. Write one for the \
             prefill and decode workloads of a service; <code>kubectl explain pdautoscaler.spec</code> \
             has every field.</p>",
            &[],
        );
    }
    html.add("</section>\n", &[]);
}

fn table(html: &mut Html, source: &Source, query: &Query, list: &List) {
    let first = (list.page - 1) * PAGE + 1;
    let through = first + list.items.len() - 1;
    html.add(
        "<section class=\"card\" id=\"list\"><table class=\"objects\" role=\"table\">\n\
         <caption>{} to {} of {}, by namespace and name. Charts show the last hour.</caption>\n\
         <thead role=\"rowgroup\"><tr role=\"row\">",
        &[&first, &through, &list.found],
    );
    for name in [
        "Object",
        "Ready",
        "Prefill",
        "Decode",
        "Attainment",
        "Bottleneck",
        "Last decision",
    ] {
        html.add("<th scope=\"col\" role=\"columnheader\">{}</th>", &[&name]);
    }
    html.add("</tr></thead>\n<tbody role=\"rowgroup\">\n", &[]);
    for item in &list.items {
        row(html, source, query, item);
    }
    html.add("</tbody></table></section>\n", &[]);
}

fn row(html: &mut Html, source: &Source, query: &Query, row: &Row) {
    let points = source.points(&row.uid);
    let points: Vec<Point> = points.into_iter().map(|(_, point)| point).collect();
    let kept = Query {
        refresh: query.refresh,
        ..Query::default()
    };
    html.add(
        "<tr role=\"row\" id=\"row-{}/{}\"><th scope=\"row\" role=\"rowheader\">\
         <a href=\"pdautoscalers/{}/{}{}\">{}</a><span class=\"under\">{}",
        &[
            &row.namespace,
            &row.name,
            &row.namespace,
            &row.name,
            &kept.text(),
            &row.name,
            &row.namespace,
        ],
    );
    html.add(" · {}</span></th>\n", &[&row.mode.unwrap_or("not decoded")]);
    html.add("<td role=\"cell\" data-name=\"Ready\">", &[]);
    ready(html, row);
    html.add("</td>\n", &[]);
    role(html, row, Role::Prefill, &points);
    role(html, row, Role::Decode, &points);
    attainment(html, row, &points);
    html.add(
        "<td role=\"cell\" data-name=\"Bottleneck\">{}",
        &[&row.bottleneck.as_deref().unwrap_or("–")],
    );
    if let Some(limit) = &row.limited_by {
        html.add("<span class=\"under\">limited: {}</span>", &[limit]);
    }
    html.add(
        "</td>\n<td role=\"cell\" class=\"why\" data-name=\"Last decision\">",
        &[],
    );
    decision(html, row, source.now());
    html.add("</td></tr>\n", &[]);
}

/// The condition Ready as a pill; its reason where it does not hold.
pub(super) fn ready(html: &mut Html, row: &Row) {
    match row.ready.status.as_str() {
        "True" => html.add("<span class=\"pill good\">Ready</span>", &[]),
        "False" => html.add(
            "<span class=\"pill bad\">Not ready</span><span class=\"under\">{}</span>",
            &[&row.ready.reason],
        ),
        _ => html.add(
            "<span class=\"pill\">Unknown</span><span class=\"under\">{}</span>",
            &[&row.ready.reason],
        ),
    }
}

/// The lines of a role over the last hour: serving replicas as an area, the need behind the
/// desired.
pub(super) fn role_lines(role: Role, points: &[Point]) -> Vec<Line> {
    let of = |value: fn(&Point) -> pd_core::PerRole<Option<u32>>| {
        let values = points.iter().map(|point| value(point)[role].map(f64::from));
        values.collect()
    };
    let [area, line] = match role {
        Role::Prefill => ["area prefill", "line prefill"],
        Role::Decode => ["area decode", "line decode"],
    };
    vec![
        Line {
            name: "ready",
            class: area,
            values: of(Point::ready),
        },
        Line {
            name: "needed",
            class: "line need",
            values: of(Point::need),
        },
        Line {
            name: "desired",
            class: line,
            values: of(Point::desired),
        },
    ]
}

/// The lines of attainment over the last hour.
pub(super) fn attainment_lines(points: &[Point]) -> Vec<Line> {
    let of = |role: Role| {
        let values = points.iter().map(|point| point.attainment_percent()[role]);
        values.collect()
    };
    vec![
        Line {
            name: "TTFT kept",
            class: "line prefill",
            values: of(Role::Prefill),
        },
        Line {
            name: "TPOT kept",
            class: "line decode",
            values: of(Role::Decode),
        },
    ]
}

fn role(html: &mut Html, row: &Row, role: Role, points: &[Point]) {
    let (name, class, status) = match role {
        Role::Prefill => ("Prefill", "p", &row.prefill),
        Role::Decode => ("Decode", "d", &row.decode),
    };
    html.add(
        "<td role=\"cell\" data-name=\"{}\"><span class=\"figure\">",
        &[&name],
    );
    match status {
        None => html.add("–", &[]),
        Some(status) => figures(html, class, status),
    }
    html.add("</span>", &[]);
    let lines = role_lines(role, points);
    let subject = format!("{name} replicas of {}", row.name);
    draw(
        html,
        "spark",
        &subject,
        Scale::of_replicas(&lines),
        &lines,
        None,
    );
    html.add("</td>\n", &[]);
}

fn figures(html: &mut Html, class: &'static str, status: &RoleStatus) {
    let desired = status.desired_replicas.unwrap_or(status.current_replicas);
    html.add(
        "<b class=\"{}\">{}</b> <small>{} ready</small>",
        &[&class, &desired, &status.ready_replicas],
    );
}

fn attainment(html: &mut Html, row: &Row, points: &[Point]) {
    html.add(
        "<td role=\"cell\" data-name=\"Attainment\"><span class=\"figure\">",
        &[],
    );
    match (&row.attainment_percent, row.objective_met) {
        (None, _) => html.add("–", &[]),
        (Some(percent), Some(false)) => html.add(
            "<b class=\"missed\">{} %</b> <small>missed</small>",
            &[percent],
        ),
        (Some(percent), _) => html.add("<b>{} %</b>", &[percent]),
    }
    html.add("</span>", &[]);
    let lines = attainment_lines(points);
    let goal = row.objective_percent.map(f64::from);
    let scale = Scale::of_percent(&lines, goal);
    let subject = format!("Percent of requests of {}", row.name);
    draw(html, "spark", &subject, scale, &lines, goal);
    html.add("</td>\n", &[]);
}

fn decision(html: &mut Html, row: &Row, now: Timestamp) {
    match &row.last_decision {
        None => html.add("{}", &[&sentence(&row.ready.message)]),
        Some(last) => html.add(
            "<span class=\"chip\">{}</span> <time datetime=\"{}\">{} ago</time><span class=\"message\">{}</span>",
            &[&last.reason, &last.time.0, &age(&last.time, now), &sentence(&last.message)],
        ),
    }
}

fn pages(html: &mut Html, query: &Query, list: &List) {
    if list.pages < 2 {
        return;
    }
    let to = |page: usize| {
        let query = Query {
            page,
            ..query.clone()
        };
        format!("./{}", query.text())
    };
    html.add(
        "<nav class=\"pages\" aria-label=\"Pages of the list\">",
        &[],
    );
    if list.page > 1 {
        html.add(
            "<a class=\"button\" rel=\"prev\" href=\"{}\">Previous</a>",
            &[&to(list.page - 1)],
        );
    }
    html.add("<span>Page {} of {}</span>", &[&list.page, &list.pages]);
    if list.page < list.pages {
        html.add(
            "<a class=\"button\" rel=\"next\" href=\"{}\">Next</a>",
            &[&to(list.page + 1)],
        );
    }
    html.add("</nav>\n", &[]);
}
