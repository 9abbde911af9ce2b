//! The worked example of `docs/decision.md`, made again and compared, so that it cannot drift.
//!
//! The page explains one decision from Prometheus' answers to replicas. Its blocks of numbers stand
//! between markers and come from here: the answers, the arithmetic (done here from the formulas, by
//! code of its own), the paragraph and the JSON of the report. `PD_UPDATE=1 cargo test -p pd-core
//! --test decision` writes them.

#![expect(clippy::unwrap_used, reason = "a test, and its parts")]
#![expect(
    clippy::disallowed_methods,
    reason = "the page is a file; the core still reads none"
)]

#[expect(
    dead_code,
    reason = "the bench and the count of allocations use the rest"
)]
#[path = "../benches/plan/services.rs"]
mod services;

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use pd_core::{
    Decision, Memory, PerRole, Reading, Reason, Snapshot,
    audit::{audit, laws},
    histogram::Histogram,
    plan,
    signal::HistogramReading,
};
use serde_json::{Value, json};

const RATE_RPS: f64 = 10.0;
const PROMPT_TOKENS: f64 = 1_000.0;
const OUTPUT_TOKENS: f64 = 200.0;
const PREFILL_SECONDS: f64 = 0.1;
const TRANSFER_SECONDS: f64 = 0.02;
const ITL_SECONDS: f64 = 0.02;
const TTFT_LIMIT_SECONDS: f64 = 0.5;

/// A histogram all of whose observations are in one bucket around `mean`, as is easily checked by
/// hand.
fn around(mean: f64, count: f64) -> HistogramReading {
    let buckets = vec![(mean * 0.9, 0.0), (mean * 1.1, count), (mean * 10.0, count)];
    Histogram::from_cumulative(buckets, count, mean * count)
        .map_or(HistogramReading::default(), HistogramReading::Value)
}

/// One prefill and two decode workers, just put under the autoscaler.
fn example() -> Snapshot {
    let mut snapshot = services::typical(RATE_RPS);
    snapshot.policy.objective.ttft.limit = Duration::from_millis(500);
    // The API sets no rate policies unless the user does.
    let behavior = &mut snapshot.policy.behavior;
    behavior.scale_up.policies.clear();
    behavior.scale_down.policies.clear();
    (snapshot.roles.prefill.current, snapshot.roles.prefill.ready) = (1, 1);
    (snapshot.roles.decode.current, snapshot.roles.decode.ready) = (2, 2);
    let requests = RATE_RPS * 60.0;
    let signals = &mut snapshot.signals;
    (
        signals.coverage.prefill.scraped,
        signals.coverage.prefill.seen,
    ) = (1, 1);
    (
        signals.coverage.decode.scraped,
        signals.coverage.decode.seen,
    ) = (2, 2);
    signals.arrival_dispersion = Reading::of(1.0);
    signals.prefix_hit_share = Reading::KnownZero;
    signals.decode_kv_usage = Reading::of(0.1);
    signals.waiting_requests.prefill = Reading::KnownZero;
    signals.output_token_rate_tps = Reading::of(RATE_RPS * OUTPUT_TOKENS);
    signals.running_requests = PerRole {
        prefill: Reading::of(RATE_RPS * PREFILL_SECONDS),
        decode: Reading::of(RATE_RPS * OUTPUT_TOKENS * ITL_SECONDS),
    };
    signals.requests_peak = signals.running_requests;
    for window in [&mut signals.recent, &mut signals.wide] {
        window.prefill_ttft = around(0.12, requests);
        window.decode_ttft = around(TRANSFER_SECONDS, requests);
        window.prefill_time = around(PREFILL_SECONDS, requests);
        window.prompt_tokens = around(PROMPT_TOKENS, requests);
        window.output_tokens = around(OUTPUT_TOKENS, requests);
        window.tpot = around(ITL_SECONDS, requests);
        window.inter_token_latency = around(ITL_SECONDS, requests * OUTPUT_TOKENS);
    }
    signals.prefill_ttft_attainment = around(0.12, requests * 60.0);
    signals.tpot_attainment = around(ITL_SECONDS, requests * 60.0);
    snapshot
}

fn answers() -> String {
    let requests = RATE_RPS * 60.0;
    let row = |query: &str, value: f64| format!("{query:<62} {value}\n");
    let increase = |name: &str, part: &str| format!("sum(increase(vllm:{name}_{part}{{…}}[60s]))");
    let mut text = String::new();
    let mut histogram = |role: &str, name: &str, mean: f64, count: f64| {
        text += &row(&format!("{role} {}", increase(name, "count")), count);
        text += &row(
            &format!("{role} {}", increase(name, "sum")),
            (mean * count * 1e6).round() / 1e6,
        );
    };
    histogram(
        "prefill",
        "request_prefill_time_seconds",
        PREFILL_SECONDS,
        requests,
    );
    histogram("prefill", "request_prompt_tokens", PROMPT_TOKENS, requests);
    histogram(
        "decode ",
        "time_to_first_token_seconds",
        TRANSFER_SECONDS,
        requests,
    );
    histogram(
        "decode ",
        "request_generation_tokens",
        OUTPUT_TOKENS,
        requests,
    );
    histogram(
        "decode ",
        "inter_token_latency_seconds",
        ITL_SECONDS,
        requests * OUTPUT_TOKENS,
    );
    text += &row(
        "decode  sum(vllm:num_requests_running{…})",
        RATE_RPS * OUTPUT_TOKENS * ITL_SECONDS,
    );
    text += &row("both    sum(vllm:num_requests_waiting{…})", 0.0);
    text
}

/// Numbers in the order in which they stand in `text`.
fn numbers(text: &str) -> Vec<f64> {
    let digits = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    digits
        .filter_map(|n| n.trim_matches('.').parse().ok())
        .collect()
}

/// The arithmetic of the page, from the formulas and with code of its own.
fn arithmetic(decision: &Decision) -> String {
    let mut text = String::new();
    let load = RATE_RPS * PREFILL_SECONDS;
    let forecast = decision.report.forecast.prefill.unwrap();
    let horizon = Duration::from_secs_f64(forecast.horizon_seconds);
    let scenarios = decision
        .memory
        .forecast
        .prefill
        .distribution(
            horizon,
            forecast.quantile,
            decision.memory.decided_at.unwrap(),
        )
        .unwrap()
        .times(PREFILL_SECONDS / PROMPT_TOKENS)
        .scenarios;
    let overload = decision.report.lead.prefill.p90_seconds.max(60.0);
    let allowed = decision.report.risk_target.prefill.miss_share();
    let slack = TTFT_LIMIT_SECONDS - TRANSFER_SECONDS - PREFILL_SECONDS;
    let _ = writeln!(
        text,
        "busy workers now       = {RATE_RPS} /s x {PREFILL_SECONDS} s = {load:.2}"
    );
    let expected = scenarios.map(|(load, _)| format!("{load:.2}")).join(", ");
    let chances = scenarios.map(|(_, share)| format!("{:.1}", share * 100.0));
    let _ = writeln!(
        text,
        "busy workers to expect = {expected}\n            chances of each = {} %",
        chances.join(", ")
    );
    let _ = writeln!(
        text,
        "a prompt may wait      = {TTFT_LIMIT_SECONDS} - {TRANSFER_SECONDS} - {PREFILL_SECONDS} = {slack:.2} s"
    );
    let mut enough = None;
    for servers in 1..=4_u32 {
        let late = scenarios.map(|(load, _)| late(servers, load, slack, overload).0);
        let mean: f64 = late
            .iter()
            .zip(scenarios)
            .map(|(late, (_, share))| late * share)
            .sum();
        let each = late.map(|late| format!("{:.2}", late * 100.0)).join(", ");
        let _ = writeln!(
            text,
            "{servers} prefill: late {each} %, on average {:.2} %",
            mean * 100.0
        );
        if mean <= allowed && enough.is_none() {
            enough = Some(servers);
        }
    }
    let (most, _) = scenarios[scenarios.len() - 1];
    let (_, waits, mean_wait) = late(2, most, slack, overload);
    let _ = writeln!(
        text,
        "such as the last of 2 prefill: {:.1} % wait, {mean_wait:.3} s on average; late: {waits:.4} x exp(-{slack:.2} / {mean_wait:.3})",
        waits * 100.0
    );
    assert_eq!(enough, decision.report.need.prefill, "{text}");
    let _ = writeln!(
        text,
        "prefill needed         = {}: the first with at most {:.1} % late",
        enough.unwrap(),
        allowed * 100.0
    );
    text += &decode_arithmetic(decision);
    text
}

/// The share of prompts that are late, the share that wait, and their mean wait, seconds.
fn late(servers: u32, load: f64, slack: f64, overload: f64) -> (f64, f64, f64) {
    let c = f64::from(servers);
    if c <= load {
        // The queue grows past the wait that is allowed, at best after half of the time.
        let grows = ((load / c - 1.0) * overload).max(1e-9);
        let in_time = (slack / grows).min(0.5) * (c / load);
        return (1.0 - in_time, 1.0, f64::INFINITY);
    }
    let mut erlang_b = 1.0;
    for servers in 1..=servers {
        erlang_b = load * erlang_b / (f64::from(servers) + load * erlang_b);
    }
    let waits = erlang_b / (1.0 - load / c * (1.0 - erlang_b));
    // Prompts of one length: half of the variability of exponential ones.
    let mean_wait = PREFILL_SECONDS * 0.5 / (c - load);
    (
        (waits * (-slack / mean_wait).exp()).min(0.5),
        waits,
        mean_wait,
    )
}

fn decode_arithmetic(decision: &Decision) -> String {
    let reasons = [Reason::DecodeWork, Reason::DecodeForecast];
    let mut steps = decision.report.steps.iter();
    let step = steps.find(|step| reasons.contains(&step.reason)).unwrap();
    let said = numbers(&step.message);
    let ahead = usize::from(step.message.contains("by the time"));
    let (expected, requests, batch) = (said[ahead], said[ahead + 1], said[ahead + 4]);
    let risk_target = decision.report.risk_target.decode;
    let percent = risk_target.quantile() * 100.0;
    let slots = said[ahead + 2];
    let need = (slots / batch).ceil();
    let mut text = String::new();
    let tokens = RATE_RPS * OUTPUT_TOKENS;
    let _ = writeln!(
        text,
        "output tokens/s now    = {RATE_RPS} /s x {OUTPUT_TOKENS} = {tokens:.0}; to expect: {expected:.0}"
    );
    let _ = writeln!(
        text,
        "requests in flight     = {requests:.0}; over all that may come, each scattered by its root, {percent:.1} % of the time at most {slots:.0}"
    );
    let _ = writeln!(
        text,
        "decode needed          = {slots:.0} / {batch:.0} = {:.2}, so {need:.0}",
        slots / batch
    );
    assert!(
        (slots - said[ahead + 2]).abs() <= 2.0,
        "{text}{}",
        step.message
    );
    assert_eq!(
        Some(f64::from(decision.report.need.decode.unwrap())),
        Some(need),
        "{text}"
    );
    text
}

/// The report without its list of inputs, which are the answers above with ages.
fn report(decision: &Decision) -> String {
    let mut value = serde_json::to_value(&decision.report).unwrap();
    shorten(&mut value);
    value["inputs"] = json!([format!("… {} signals", decision.report.inputs.len())]);
    serde_json::to_string_pretty(&value).unwrap() + "\n"
}

/// Six figures are enough for a page.
fn shorten(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().map_or(0.0, |n| (n * 1e6).round() / 1e6);
            *value = json!(rounded);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

/// `page` with the block `name` replaced.
fn with_block(page: &str, name: &str, language: &str, body: &str) -> String {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->"),
    );
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}\n```{language}\n{body}```\n\n{end}{after}")
}

/// `text` in lines of at most 110 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, String::len);
        if line + word.len() > 108 {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_worked_example_is_what_is_decided() {
    let snapshot = example();
    let decision = plan(&snapshot, &Memory::default(), services::START);
    assert_eq!(audit(&snapshot, &decision), []);
    assert_eq!(laws(&snapshot, services::START, &decision), []);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/decision.md");
    let page = fs::read_to_string(&path).unwrap();
    let blocks = [
        ("answers", "text", answers()),
        ("arithmetic", "text", arithmetic(&decision)),
        ("paragraph", "text", wrapped(&decision.report.paragraph())),
        ("report", "json", report(&decision)),
    ];
    let wanted = blocks
        .into_iter()
        .fold(page.clone(), |page, (name, language, body)| {
            with_block(&page, name, language, &body)
        });
    if std::env::var_os("PD_UPDATE").is_some() {
        fs::write(&path, wanted).unwrap();
        return;
    }
    assert!(
        page == wanted,
        "docs/decision.md differs from what is decided: look whether the change is meant, and write it \
         again with `PD_UPDATE=1 cargo test -p pd-core --test decision`"
    );
}
