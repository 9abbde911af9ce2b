//! The demo as a whole: the same day twice, what it must attain, and options it must refuse.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::time::HOUR;

fn scenario(rate_scale: f64, length_hours: u64) -> Scenario {
    Scenario {
        length: length_hours * HOUR,
        ..Scenario::day(7, rate_scale).unwrap()
    }
}

/// Plays a scenario without any pace.
fn played(scenario: &Scenario) -> Record {
    let mut record = Record::new(scenario.about());
    let mut world = World::new(scenario);
    while let Some(step) = world.step() {
        record.points.extend(step.point);
        if step.changed {
            record.changes.push(step.decision.clone());
        }
        record.latest = Some(step.decision);
    }
    record.summary = Some(world.finish());
    record
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
fn a_run_that_breaks_off_still_sums_up() {
    let (stop, stopped) = mpsc::channel();
    stop.send(()).unwrap();
    let scenario = scenario(1.0, 24);
    let hub = Hub::new(Record::new(scenario.about()));
    let summary = play(&scenario, Duration::from_mins(1), &stopped, &hub);
    assert!(!summary.complete);
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
