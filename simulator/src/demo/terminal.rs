//! The terminal's output: where the page is, how far the day is, and what it came to.
//!
//! On a terminal a bar moves in place; anywhere else there is one plain line per hour of the day,
//! so that a log stays readable.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use super::record::{Record, Replicas, Summary};
use super::rival::RivalAbout;
use super::scenario::{Load, Scenario};
use super::world::World;
use crate::simulate::options::PolicyName;
use crate::time::{DAY, HOUR, MINUTE, Nanos};

/// Progress of the run, as a bar or as lines.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    next_line_at: Nanos,
}

impl Progress {
    pub(super) fn new(length: Nanos) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:12.cyan/238} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─");
            ProgressBar::new(length / MINUTE).with_style(style)
        });
        Self {
            bar,
            next_line_at: HOUR,
        }
    }

    /// Shows where `world` is, and the rival of `record` beside it.
    pub(super) fn show(&mut self, world: &World, record: &Record) {
        if let Some(bar) = &self.bar {
            bar.set_position(world.now() / MINUTE);
            bar.set_message(line(world, record));
        } else if world.now() >= self.next_line_at {
            self.next_line_at = world.now() + HOUR;
            say(&line(world, record));
        }
    }

    /// Leaves the last state on the screen.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Writes a line. Whoever closed the pipe does not want to read it.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Announces the run and where to watch it.
pub(super) fn introduce(scenario: &Scenario, against: Option<PolicyName>, url: &str) {
    let about = scenario.about();
    let length = match scenario.length {
        DAY => "A day".to_owned(),
        length => format!("{:.1} hours", crate::time::seconds(length) / 3_600.0),
    };
    let (traffic, rate, model) = (&about.traffic, about.rate_scale, about.model);
    let embedded = matches!(scenario.load, Load::Day(_));
    let rate_of = if embedded { "its embedded" } else { "its" };
    say(&format!(
        "{length} of {traffic} at {rate} x {rate_of} rate, on {model}."
    ));
    say(&format!(
        "Objective: TTFT p{p} <= {} ms, TPOT p{p} <= {} ms. Decisions every {} s, workers start in {} s.",
        about.ttft_limit_ms,
        about.tpot_limit_ms,
        about.interval_seconds,
        about.startup_seconds,
        p = about.percentile
    ));
    if let Some(rival) = against.map(RivalAbout::of) {
        say(&format!(
            "Beside it {} ({}) plays the same requests: {}.",
            rival.title, rival.policy, rival.rule
        ));
    }
    say(&format!("Live page: {url}"));
}

/// The result of the run.
pub(super) fn sum_up(record: &Record, summary: &Summary, report: &Path) {
    say("");
    if !summary.complete {
        let played = crate::time::from_seconds(summary.played_seconds);
        say(&format!("Stopped at {}.", clock(played)));
    }
    for (name, value) in rows(record, summary, report) {
        say(&format!("  {name:<22}{value}"));
    }
}

fn rows(record: &Record, summary: &Summary, report: &Path) -> Vec<(&'static str, String)> {
    let (most, events) = (summary.replicas_max, summary.scale_events);
    let attained = summary.attained.map_or("-".to_owned(), percent);
    let mut rows = vec![
        ("requests", grouped(summary.requests)),
        ("within the objective", attained),
        ("GPU-hours", format!("{:.0}", summary.gpu_hours)),
        (
            "static peak GPU-hours",
            format!(
                "{:.0}  ({} prefill + {} decode held all the time; {} saved)",
                summary.static_gpu_hours,
                most.prefill,
                most.decode,
                percent(summary.saved())
            ),
        ),
        (
            "scale events",
            format!(
                "{}  (prefill {}, decode {})",
                events.prefill + events.decode,
                events.prefill,
                events.decode
            ),
        ),
        ("dropped by scale-down", grouped(summary.dropped)),
        (
            "decisions",
            format!(
                "{}  ({} broke an invariant)",
                grouped(summary.decisions),
                summary.audit_findings
            ),
        ),
    ];
    rows.extend(of_rival(record));
    rows.push(("report", report.display().to_string()));
    rows
}

/// The result of the rival, so far as it was played.
fn of_rival(record: &Record) -> Option<(&'static str, String)> {
    let rival = record.rival.as_ref()?;
    let point = rival.points.last()?;
    let (attained, gpu_hours) = match &rival.summary {
        Some(summary) => (summary.attained, summary.gpu_hours),
        None => (point.attained_so_far, point.gpu_hours),
    };
    let attained = attained.map_or("-".to_owned(), percent);
    let text = format!(
        "{attained} within the objective, {gpu_hours:.0} GPU-hours  ({})",
        rival.about.policy
    );
    Some((rival.about.name, text))
}

fn line(world: &World, record: &Record) -> String {
    let replicas = world.replicas();
    let attained = world.attained_so_far().map_or("-".to_owned(), percent);
    let beside = record.rival.as_ref().and_then(|rival| {
        let attained = rival.points.last()?.attained_so_far?;
        Some(format!("  ({} {})", rival.about.name, percent(attained)))
    });
    let beside = beside.unwrap_or_default();
    format!(
        "{}  prefill {}  decode {}  {} GPUs  {attained} within objective{beside}",
        clock(world.now()),
        ready_of_desired(replicas.prefill),
        ready_of_desired(replicas.decode),
        world.gpus()
    )
}

fn ready_of_desired(replicas: Replicas) -> String {
    format!("{}/{}", replicas.ready, replicas.desired)
}

/// Time of the day, hours and minutes.
fn clock(at: Nanos) -> String {
    format!("{:02}:{:02}", at / HOUR, at % HOUR / MINUTE)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let numbers = [0, 999, 1_000, 12_345_678].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "12,345,678"]);
    }

    #[test]
    fn the_clock_counts_whole_minutes() {
        assert_eq!(clock(7 * HOUR + 42 * MINUTE + 59), "07:42");
    }
}
