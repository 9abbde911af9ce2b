//! Ten minutes of metrics from the text at their end: counters rise evenly, gauges stand still.

use std::{fmt::Write as _, fs, path::Path};

/// Time between two samples of a series, seconds.
const INTERVAL_SECONDS: f64 = 15.0;

/// Time that a text's counters are of, seconds.
const TEXT_SECONDS: f64 = 600.0;

/// How far back samples go: a scrape more than any window.
const PAST_SECONDS: f64 = TEXT_SECONDS + 2.0 * INTERVAL_SECONDS;

/// The text of a service's pods, and the signals that must be read from it.
#[derive(Clone)]
pub(crate) struct Case {
    /// The file's name, and the namespace.
    pub(crate) name: String,
    /// Pods by name, with what they publish.
    pub(crate) pods: Vec<(String, String)>,
    /// Signals by name; nothing where one must not be known.
    pub(crate) reads: Vec<(String, Option<f64>)>,
}

impl Case {
    /// The case in a file: `# pod NAME` begins the text of a pod, `# reads SIGNAL NUMBER` states a
    /// signal.
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut case = Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            pods: Vec::new(),
            reads: Vec::new(),
        };
        for line in text.lines() {
            if let Some(pod) = line.strip_prefix("# pod ") {
                case.pods.push((pod.to_owned(), String::new()));
            } else if let Some(read) = line.strip_prefix("# reads ") {
                let (name, number) = read.split_once(' ').unwrap();
                case.reads.push((name.to_owned(), number.parse().ok()));
            } else if let Some((_, pod)) = case.pods.last_mut() {
                pod.push_str(line);
                pod.push('\n');
            }
        }
        case
    }
}

/// A series at the end of the text.
struct Series {
    name: String,
    labels: String,
    value: f64,
    rises: bool,
}

fn series(text: &str) -> Vec<Series> {
    let mut rises = false;
    let mut all = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(about) = line.strip_prefix("# TYPE ") {
            rises = about.ends_with(" counter") || about.ends_with(" histogram");
        }
        if line.starts_with('#') {
            continue;
        }
        let (head, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match head.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end_matches('}')),
            None => (head, ""),
        };
        // `_created` gauges hold times and are nobody's.
        if name.ends_with("_created") {
            continue;
        }
        all.push(Series {
            name: name.to_owned(),
            labels: labels.to_owned(),
            value: value.parse().unwrap(),
            rises,
        });
    }
    all
}

/// `cases` as text that promtool makes data of, up to `now` in seconds since 1970.
pub(crate) fn history(cases: &[Case], now: f64) -> String {
    let mut text = String::new();
    for case in cases {
        for (pod, published) in &case.pods {
            let place = format!(
                "namespace=\"{}\",pod=\"{pod}\",instance=\"{pod}\"",
                case.name
            );
            for one in series(published) {
                write(&mut text, &place, &one, now);
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

fn write(text: &mut String, place: &str, series: &Series, now: f64) {
    let separator = if series.labels.is_empty() { "" } else { "," };
    let mut past = PAST_SECONDS;
    while past >= 0.0 {
        let share = (PAST_SECONDS - past) / TEXT_SECONDS;
        let value = if series.rises {
            series.value * share
        } else {
            series.value
        };
        let Series { name, labels, .. } = series;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name}{{{place}{separator}{labels}}} {value} {:.3}",
            now - past
        );
        past -= INTERVAL_SECONDS;
    }
}
