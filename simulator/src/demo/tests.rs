//! The demo as a whole: the same day twice, what it must attain, and options it must refuse.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::record::Point;
use super::rival::Against;
use super::scenario::Day;
use super::*;
use crate::autoscaler::{Peer, Variant};
use crate::simulate::options::PolicyName;
use crate::time::HOUR;

/// The rival unless told.
const HPA: PolicyName = PolicyName::Peer(Peer::HpaAverageValue, Variant::Default);

fn scenario(rate_scale: f64, length_hours: u64) -> Scenario {
    Scenario {
        length: length_hours * HOUR,
        ..Scenario::day(Day::Chat, 7, rate_scale).unwrap()
    }
}

/// Plays a scenario without any pace.
fn played(scenario: &Scenario) -> Record {
    let (_open, stopped) = mpsc::channel();
    let hub = Hub::new(Record::new(scenario.about(), None));
    play(scenario, None, Duration::ZERO, &stopped, &hub);
    hub.record().clone()
}

/// The same beside a rival.
fn played_against(scenario: &Scenario, policy: PolicyName) -> Record {
    let (_open, stopped) = mpsc::channel();
    let about = RivalAbout::of(policy);
    let hub = Hub::new(Record::new(scenario.about(), Some(about)));
    let rival = World::of_rival(scenario, policy).unwrap();
    play(scenario, Some(rival), Duration::ZERO, &stopped, &hub);
    hub.record().clone()
}

/// When points were taken, seconds.
fn times(points: &[Point]) -> Vec<f64> {
    points.iter().map(|point| point.at_seconds).collect()
}

#[test]
fn the_same_seed_gives_the_same_day_and_another_seed_another() {
    let first = played(&scenario(2.0, 4));
    assert_eq!(first, played(&scenario(2.0, 4)));
    let other = Scenario {
        seed: 8,
        ..scenario(2.0, 4)
    };
    assert_ne!(first.summary, played(&other).summary);
}

#[test]
fn a_day_keeps_its_objective_and_loses_nothing() {
    let record = played(&scenario(3.0, 24));
    let summary = record.summary.unwrap();
    assert!(summary.complete);
    assert_eq!(summary.completed + summary.refused, summary.requests);
    assert_eq!((summary.dropped, summary.audit_findings), (0, 0));
    assert_eq!(summary.decisions, 5_760);
    assert_eq!(record.points.len(), 480);
    let attained = summary.attained.unwrap();
    assert!(attained > 0.95, "{attained}");
    assert!(summary.gpu_hours < summary.static_gpu_hours, "{summary:?}");
    // Prompts grow and answers shrink over the day, so the roles must part.
    assert!(summary.replicas_max.prefill > summary.replicas_min.prefill);
    let (night, evening) = (&record.points[100], &record.points[340]);
    assert!(evening.replicas.prefill.desired > night.replicas.prefill.desired);
    assert!(evening.replicas.decode.desired <= night.replicas.decode.desired);
}

#[test]
fn the_rival_plays_the_same_requests_at_the_same_times() {
    let scenario = scenario(1.0, 2);
    let alone = played(&scenario);
    for policy in [
        HPA,
        // Every 2 s, every 3 minutes, with a ratio, and by plans that know the day.
        PolicyName::Peer(Peer::KnativeKpa, Variant::Default),
        PolicyName::Peer(Peer::DynamoThroughput, Variant::Default),
        PolicyName::Peer(Peer::KthenaPdRatio, Variant::Default),
        PolicyName::StaticPeak,
        PolicyName::Clairvoyant,
    ] {
        let record = played_against(&scenario, policy);
        let rival = record.rival.clone().unwrap();
        assert_eq!(times(&rival.points), times(&record.points), "{policy}");
        let requests = |points: &[Point]| points.iter().map(|p| p.requests).collect::<Vec<_>>();
        assert_eq!(
            requests(&rival.points),
            requests(&record.points),
            "{policy}"
        );
        let (ours, theirs) = (record.summary.clone().unwrap(), rival.summary.unwrap());
        assert_eq!(ours.requests, theirs.requests, "{policy}");
        // The product's run is the same as without it.
        let without = Record {
            rival: None,
            ..record
        };
        assert_eq!(without, alone, "{policy}");
    }
}

#[test]
fn the_rival_misses_where_the_product_does_not() {
    let record = played_against(&scenario(16.0, 1), HPA);
    let (ours, theirs) = (
        record.summary.unwrap(),
        record.rival.unwrap().summary.unwrap(),
    );
    let attained = |summary: &Summary| summary.attained.unwrap();
    assert!(
        attained(&ours) > attained(&theirs) + 0.02,
        "{ours:?} {theirs:?}"
    );
}

#[test]
fn the_reasoning_day_keeps_its_objective_and_needs_most_at_decode() {
    let scenario = Scenario {
        // Past the step at six, when answers double in length.
        length: 7 * HOUR,
        ..Scenario::day(Day::Reasoning, 7, 1.0).unwrap()
    };
    let record = played(&scenario);
    assert!(record.about.traffic.contains("deepseek-r1"));
    let summary = record.summary.unwrap();
    assert_eq!((summary.dropped, summary.audit_findings), (0, 0));
    assert!(summary.attained.unwrap() > 0.97, "{summary:?}");
    let last = record.points.last().unwrap().replicas;
    assert!(last.decode.desired > last.prefill.desired, "{last:?}");
}

#[test]
fn a_run_that_breaks_off_still_sums_up() {
    let (stop, stopped) = mpsc::channel();
    stop.send(()).unwrap();
    let scenario = scenario(1.0, 24);
    let about = RivalAbout::of(HPA);
    let hub = Hub::new(Record::new(scenario.about(), Some(about)));
    let rival = World::of_rival(&scenario, HPA).unwrap();
    let minute = Duration::from_mins(1);
    let summary = play(&scenario, Some(rival), minute, &stopped, &hub);
    assert!(!summary.complete);
    let rival = hub.record().rival.clone().unwrap();
    assert_eq!((rival.points.len(), rival.summary), (0, None));
    assert_eq!(summary.decisions, 1);
    assert_eq!(summary.dropped, 0);
    assert_eq!(hub.record().summary, Some(summary));
}

#[test]
fn the_report_needs_nothing_but_itself() {
    let html = page::render(&played(&scenario(1.0, 1)), false).unwrap();
    for outside in ["http:", "https:", "//cdn", "@import", "url(", " src="] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains(r#""live":false"#));
    assert!(html.contains(r#""attainedSoFar":"#));
    assert!(!html.contains("/*record*/") && !html.contains("/*css*/"));
}

/// The page as a browser draws it, scripts left out; nothing where there is no Chromium.
fn drawn(record: &Record) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    fs::write(&file, page::render(record, false).unwrap()).unwrap();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let output = names.into_iter().find_map(|name| {
        let mut browser = Command::new(name);
        browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
        browser.arg("--virtual-time-budget=5000");
        browser.arg(format!("--user-data-dir={}", folder.path().display()));
        browser.arg(format!("file://{}", file.display()));
        browser.output().ok()
    });
    let Some(output) = output else {
        eprintln!("no Chromium: the page is not looked at");
        return None;
    };
    let page = String::from_utf8(output.stdout).unwrap();
    let (shown, _) = page.split_once("<script type").unwrap();
    Some(shown.to_owned())
}

#[test]
fn the_page_says_in_one_sentence_what_both_attain_and_cost() {
    let scenario = scenario(1.0, 2);
    let mut record = played_against(&scenario, HPA);
    let (ours, theirs) = {
        let rival = record.rival.as_ref().unwrap().summary.as_ref();
        let of = |summary: &Summary| {
            let percent = 100.0 * summary.attained.unwrap();
            (
                format!("{percent:.1} %"),
                format!("{:.0} GPU-hours", summary.gpu_hours),
            )
        };
        (of(record.summary.as_ref().unwrap()), of(rival.unwrap()))
    };
    let Some(page) = drawn(&record) else { return };
    let sentence = |page: &str| {
        let (_, from) = page.split_once(r#"id="sentence""#).unwrap();
        let (text, _) = from.split_once("</p>").unwrap();
        text.to_owned()
    };
    let said = sentence(&page);
    for part in [&ours.0, &ours.1, &theirs.0, &theirs.1] {
        assert!(said.contains(part.as_str()), "{part} in {said}");
    }
    assert!(said.contains("HPA as shipped"), "{said}");
    // Two lines of latencies, two of replicas, the GPUs and the two charts on top.
    assert_eq!(page.matches(r#"stroke="var(--rival)""#).count(), 7);
    assert!(!page.contains("NaN") && !page.contains("undefined"));

    // Half-way, the last moment that both have reached counts.
    record.points.truncate(20);
    record.rival.as_mut().unwrap().points.truncate(19);
    record.summary = None;
    let page = drawn(&record).unwrap();
    assert!(sentence(&page).contains("So far"), "{}", sentence(&page));
    assert!(!page.contains("NaN") && !page.contains("undefined"));

    let alone = Record {
        rival: None,
        ..record
    };
    let page = drawn(&alone).unwrap();
    assert!(
        sentence(&page).contains("its own peak"),
        "{}",
        sentence(&page)
    );
    assert!(!page.contains("var(--rival)") && !page.contains("NaN"));

    let page = drawn(&alone.emptied()).unwrap();
    assert!(
        sentence(&page).contains("requests is served"),
        "{}",
        sentence(&page)
    );
}

#[test]
fn texts_cannot_end_the_script_that_holds_them() {
    let mut record = played(&scenario(1.0, 1));
    let entry = record.latest.as_mut().unwrap();
    "</script><b>".clone_into(&mut entry.message);
    let html = page::render(&record, false).unwrap();
    assert!(!html.contains("</script><b>"));
    assert_eq!(html.matches("</script>").count(), 3);
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_run() {
    let message = claim(Path::new("/nowhere/at/all.html"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`--report /nowhere/at/all.html`"),
        "{message}"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_refused_by_name() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let report = std::env::temp_dir().join(format!("pd-demo-port-{port}.html"));
    let refused = run(DemoOptions {
        duration: Duration::ZERO,
        report: report.clone(),
        port,
        no_browser: true,
        seed: 1,
        day: Day::Chat,
        against: Against(Some(HPA)),
        rate_scale: Some(1.0),
        trace: None,
        time_scale: 1.0,
    });
    let message = refused.await.unwrap_err().to_string();
    assert!(!report.exists(), "nothing is left behind");
    assert!(message.contains(&format!("`--port {port}`")), "{message}");
}

#[tokio::test]
async fn a_page_that_comes_late_gets_everything_and_the_stream_ends_with_the_run() {
    let record = played(&scenario(1.0, 1));
    let points = record.points.len();
    let hub = Arc::new(Hub::new(record));
    let server = Server::start(0, hub).await.unwrap();
    let address = server.url().replace("http://", "").replace('/', "");

    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .unwrap()
        .unwrap();
    assert!(answer.matches(r#""atSeconds":"#).count() >= points);
    assert!(answer.contains(r#""summary":{"complete":true"#));
    server.close().await;
}

#[test]
fn a_trace_is_played_as_the_day_is() {
    let ramp = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ramp.csv");
    let scenario = Scenario::trace(&ramp, 4.0, 2.0, 7).unwrap();
    assert_eq!(scenario.length, HOUR / 6);
    let record = played(&scenario);
    assert_eq!(record.about.traffic, "ramp");
    assert_eq!(record.points.len(), 40);
    let summary = record.summary.unwrap();
    assert_eq!((summary.requests, summary.dropped), (9_312, 0));
    let refused = Scenario::trace(Path::new("/nowhere.csv"), 1.0, 1.0, 7).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("trace `/nowhere.csv` cannot be read: ")
    );
}
