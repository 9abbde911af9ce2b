//! Backtests of a real Prometheus: what it remembers of a simulated day is played again.
//!
//! A day, four times as fast, is played under the product, and what a scrape of its workers would
//! have shown is written into a server's data. So the truth is known: the attainment and the
//! GPU-hours that the backtest must come to, and the profile that a calibration must find.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use pd_core::PerRole;
use pd_sim::{
    autoscaler::{PdAutoscaler, PolicyVerdict},
    backtest::{
        Backtest, backtest,
        options::{BacktestOptions, Moment, RangeOptions},
    },
    calibrate,
    engine::{Arrival, Profile, RequestOutcome, WorkerState},
    exposition::{Dialect, render},
    policy::read_object,
    scenario::Scenario,
    simulate::options::Output,
    time::{HOUR, MINUTE, Nanos, SECOND},
    traffic::{Arrivals, servegen_day},
    world::{Listener, Replicas, Setup, World},
};
use pd_tests::prometheus::{Prometheus, PrometheusOptions};
use serde_json::Value;

/// How much faster than real the day is.
const FASTER: u64 = 4;

/// Length of the recorded day.
const LENGTH: Nanos = 24 * HOUR / FASTER;

/// When the day begins.
const FROM_UNIX: i64 = 1_779_000_000;

/// Time between two scrapes that are written down.
const SCRAPE: Nanos = 30 * SECOND;

const CONFIG: &str = "
apiVersion: pdautoscaler.io/v1alpha1
kind: PDAutoscaler
metadata: { name: llama, namespace: serving }
spec:
  prefill:
    target: { apiVersion: apps/v1, kind: StatefulSet, name: prefill }
    maxReplicas: 32
    gpusPerReplica: 4
  decode:
    target: { apiVersion: apps/v1, kind: StatefulSet, name: decode }
    maxReplicas: 32
    gpusPerReplica: 4
  objective:
    ttft: { target: 500ms, percentile: 95 }
    tpot: { target: 25ms, percentile: 95 }
";

/// The series that a backtest reads; the others need not be written.
const READ: [&str; 8] = [
    "vllm:num_requests_running",
    "vllm:request_success_total",
    "vllm:prefix_cache_",
    "vllm:time_to_first_token_seconds",
    "vllm:request_prefill_time_seconds",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "vllm:request_time_per_output_token_seconds",
];

/// The truth of the recorded day.
#[derive(Default)]
struct Truth {
    requests: f64,
    ttft_attained: f64,
    tpot_attained: f64,
    attained: f64,
    now: Nanos,
    workers: u32,
    gpu_hours: f64,
}

impl Listener for Truth {
    fn arrived(&mut self, _: &Arrival) {
        self.requests += 1.0;
    }

    fn ended(&mut self, outcome: &RequestOutcome) {
        let ttft = outcome.ttft_seconds() <= 0.5;
        let tpot = outcome.tpot_seconds().is_none_or(|tpot| tpot <= 0.025);
        self.ttft_attained += f64::from(u8::from(ttft));
        self.tpot_attained += f64::from(u8::from(tpot));
        self.attained += f64::from(u8::from(ttft && tpot));
    }

    fn hold(&mut self, now: Nanos, replicas: PerRole<Replicas>) {
        self.gpu_hours += f64::from(self.workers * 4) * (now - self.now) as f64 / HOUR as f64;
        self.now = now;
        self.workers = replicas.prefill.provisioned() + replicas.decode.provisioned();
    }

    fn decided(&mut self, _: &PolicyVerdict) {}
}

/// The day as requests.
fn day(seed: u64, until: Nanos) -> impl Iterator<Item = Arrival> + Send {
    let arrivals = Arrivals::new(servegen_day().unwrap(), seed, 0, until * FASTER);
    arrivals.map(|arrival| Arrival {
        at: arrival.at / FASTER,
        ..arrival
    })
}

/// Plays the day, and gives the truth and the scrapes of it, which begin at `from_unix`.
fn recorded(config: &Path, from_unix: i64) -> (Truth, String) {
    let (_, policy) = read_object(config).unwrap();
    let setup = Setup {
        replicas_at_start: PerRole {
            prefill: 3,
            decode: 5,
        },
        ..Setup::new(policy, Profile::default(), LENGTH)
    };
    let profile = setup.profile.clone();
    let warm_up = day(1, 10 * MINUTE);
    let autoscaler = Box::new(PdAutoscaler::starting_at(from_unix * 1_000));
    let mut world = World::new(setup, autoscaler, warm_up, day(2, LENGTH), Truth::default());
    let mut text = String::new();
    while world.step().is_some() {
        if !world.now().is_multiple_of(SCRAPE) {
            continue;
        }
        let at = from_unix + i64::try_from(world.now() / SECOND).unwrap();
        for worker in world.service().workers() {
            if worker.state == WorkerState::Starting {
                continue;
            }
            let labels = format!("namespace=\"serving\",pod=\"{}\",", worker.name);
            let exposed = render(worker.metrics, &profile, "llama", Dialect::Current);
            let read = exposed
                .lines()
                .filter(|line| READ.iter().any(|name| line.starts_with(name)));
            for (name, rest) in read.filter_map(|line| line.split_once('{')) {
                writeln!(text, "{name}{{{labels}{rest} {at}").unwrap();
            }
        }
    }
    text.push_str("# EOF\n");
    world.finish();
    (world.into_listener(), text)
}

/// A Prometheus that remembers the recorded day.
struct Remembered {
    prometheus: Prometheus,
    config: PathBuf,
    from_unix: i64,
    truth: Truth,
}

impl Remembered {
    async fn start() -> Self {
        let prometheus = Prometheus::start(&PrometheusOptions::default())
            .await
            .unwrap();
        // Always the same moment, for what is decided depends on where whole minutes and decisions
        // fall.
        let from_unix = FROM_UNIX;
        let config = prometheus.directory().join("pda.yaml");
        std::fs::write(&config, CONFIG).unwrap();
        let (truth, text) = recorded(&config, from_unix);
        let file = prometheus.directory().join("day.txt");
        std::fs::write(&file, text).unwrap();
        prometheus.kill().await.unwrap();
        let data = prometheus.directory().join("data");
        let (file, data) = (file.to_string_lossy(), data.to_string_lossy());
        let arguments = ["tsdb", "create-blocks-from", "openmetrics", &file, &data];
        prometheus.promtool(&arguments).await.unwrap();
        prometheus.restart().await.unwrap();
        Self {
            prometheus,
            config,
            from_unix,
            truth,
        }
    }

    fn options(&self) -> BacktestOptions {
        let to = self.from_unix + i64::try_from(LENGTH / SECOND).unwrap();
        BacktestOptions {
            config: self.config.clone(),
            prometheus: self.prometheus.url(),
            range: RangeOptions {
                from: Some(Moment::At(self.from_unix)),
                to: Moment::At(to),
                step: None,
                namespace: None,
                namespace_label: "namespace".into(),
                pod_label: "pod".into(),
                timeout: Duration::from_mins(1),
            },
            config_maps: Vec::new(),
            profile: None,
            lead: None,
            gpus_per_replica: 1,
            seed: 7,
            decisions: 5,
            output: Output::Text,
        }
    }

    /// A scenario file with a profile whose every time is multiplied.
    fn scenario(&self, factor: f64) -> PathBuf {
        let mut profile = Profile::default();
        for time in [
            &mut profile.prefill_base_milliseconds,
            &mut profile.prefill_milliseconds_per_kilotoken,
            &mut profile.prefill_milliseconds_per_megatoken_squared,
            &mut profile.decode_base_milliseconds,
            &mut profile.decode_milliseconds_per_request,
            &mut profile.decode_milliseconds_per_megatoken,
        ] {
            *time *= factor;
        }
        let path = self.prometheus.directory().join(format!("x{factor}.yaml"));
        let text = serde_json::json!({ "profile": profile }).to_string();
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn near(what: &str, got: f64, truth: f64, most: f64) {
    assert!(
        (got - truth).abs() <= most,
        "{what}: {got} instead of {truth}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_day_is_reproduced_and_a_wrong_profile_is_recovered() {
    let day = Remembered::start().await;
    let known = BacktestOptions {
        profile: Some(day.scenario(1.0)),
        ..day.options()
    };
    let look = backtest(&known).unwrap();
    eprintln!("{}", look.to_text(5));
    day.is_reproduced(&look);
    let again = backtest(&known).unwrap();
    assert_eq!(again.decisions, look.decisions);

    // Learnt from the metrics alone.
    let learnt = backtest(&day.options()).unwrap();
    near(
        "learnt GPU-hours, %",
        learnt.simulated.gpu_hours / day.truth.gpu_hours * 100.0,
        100.0,
        8.0,
    );

    day.wrong_profile_is_recovered();
    day.what_is_not_there_is_told_by_name().await;
}

impl Remembered {
    /// Checks what backtest says against what was played, with the profile that the day was played
    /// with.
    fn is_reproduced(&self, look: &Backtest) {
        let truth = &self.truth;
        let percent = |part: f64| part / truth.requests * 100.0;
        let (was, would) = (&look.measured, &look.simulated);
        near(
            "requests, %",
            was.requests / truth.requests * 100.0,
            100.0,
            2.0,
        );
        let attained = would.attainment_percent.unwrap();
        near("attainment", attained, percent(truth.attained), 1.5);
        // Metrics of a minute show more spread than the requests had, and headroom follows spread.
        near(
            "GPU-hours, %",
            would.gpu_hours / truth.gpu_hours * 100.0,
            100.0,
            8.0,
        );
        // The measurement ends at the edges of buckets, and lacks replicas that only start.
        near(
            "measured TTFT",
            was.ttft_attainment_percent.unwrap(),
            percent(truth.ttft_attained),
            2.0,
        );
        near(
            "measured TPOT",
            was.tpot_attainment_percent.unwrap(),
            percent(truth.tpot_attained),
            1.0,
        );
        near(
            "measured GPU-hours, %",
            was.gpu_hours / truth.gpu_hours * 100.0,
            97.0,
            5.0,
        );
        assert!(look.fit.tpot.mape_percent.unwrap() < 5.0, "{:?}", look.fit);
        assert!(!look.decisions.is_empty());
        assert!(
            look.decisions
                .iter()
                .all(|decision| !decision.reason.is_empty())
        );
    }

    /// A profile wrong by 1.3 is found to be, and one that is right is written.
    fn wrong_profile_is_recovered(&self) {
        let day = self;
        let known = day.options();
        let written = day.prometheus.directory().join("calibrated.yaml");
        let wrong = calibrate::options::CalibrateOptions {
            observed: None,
            prefill_replicas: None,
            decode_replicas: None,
            prometheus: Some(day.prometheus.url()),
            config: Some(day.config.clone()),
            range: known.range,
            scenario: Some(day.scenario(1.0 / 1.3)),
            write: Some(written.clone()),
            seed: 7,
            output: Output::Json,
        };
        let calibrated = calibrate::run(&wrong);
        let calibrated: Value = serde_json::from_str(&calibrated.unwrap()).unwrap();
        eprintln!("{calibrated:#}");
        near(
            "prefill factor",
            calibrated["prefillFactor"].as_f64().unwrap(),
            1.3,
            0.05,
        );
        near(
            "decode factor",
            calibrated["decodeFactor"].as_f64().unwrap(),
            1.3,
            0.05,
        );
        let mape = |fit: &str| calibrated[fit]["tpot"]["mapePercent"].as_f64().unwrap();
        assert!(
            mape("after") < 5.0 && mape("after") < mape("before") / 3.0,
            "{calibrated}"
        );
        let profile = Scenario::read(&written).unwrap().profile;
        near("written", profile.decode_base_milliseconds, 8.64, 0.4);
    }

    async fn what_is_not_there_is_told_by_name(&self) {
        let day = self;
        let told = |options: BacktestOptions| backtest(&options).unwrap_err().to_string();
        let within = |change: fn(&mut RangeOptions)| {
            let mut options = day.options();
            change(&mut options.range);
            options
        };
        let nowhere = within(|range| range.namespace = Some("nowhere".into()));
        let message = told(nowhere);
        assert!(
            message.contains(
                "has nothing about pods `prefill-[0-9]+` and `decode-[0-9]+` in namespace `nowhere`"
            ),
            "{message}"
        );
        let long_ago = within(|range| {
            range.from = Some(Moment::At(1_000_000_000));
            range.to = Moment::At(1_000_003_600);
        });
        let message = told(long_ago);
        assert!(
            message.contains("from 2001-09-09T01:46:40Z to 2001-09-09T02:46:40Z"),
            "{message}"
        );
        let short = within(|range| {
            range.from = Some(Moment::Ago(Duration::from_secs(90)));
            range.to = Moment::Ago(Duration::ZERO);
        });
        assert!(told(short).contains("give a longer range"));
        let url = day.prometheus.url();
        day.prometheus.kill().await.unwrap();
        let message = told(day.options());
        assert!(
            message.starts_with(&format!("prometheus at `{url}` does not answer: ")),
            "{message}"
        );
    }
}
