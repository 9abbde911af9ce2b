//! The kubectl plugin as people run it: against the real API server, beside the shipped controller.
//!
//! The plugin is judged by what it prints, by its exit code, and by what the API server holds
//! afterwards. Its words are tested in its own crate.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use pd_api::v1alpha1::Mode;
use pd_tests::{
    binaries::workspace_binary,
    control_plane::{Namespace, eventually},
    stage::{DEADLINE, Stage, autoscaler, prepared_cluster, workload},
};
use serde_json::{Value, json};
use tokio::process::Command;

/// A run of the plugin, when it has ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// The answer, if the plugin ended with `code`.
    fn with(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self.out
    }

    fn json(self, code: i32) -> Value {
        serde_json::from_str(&self.with(code)).unwrap()
    }
}

async fn plugin() -> PathBuf {
    tokio::task::spawn_blocking(|| workspace_binary("kubectl-pd"))
        .await
        .unwrap()
        .unwrap()
}

/// Runs the plugin as the user of a kubeconfig.
async fn run_as(kubeconfig: &Path, arguments: &[&str]) -> Ran {
    let output = Command::new(plugin().await)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the plugin as an administrator in `namespace`.
async fn run(namespace: &Namespace<'_>, arguments: &[&str]) -> Ran {
    let arguments = [arguments, &["--namespace", namespace.name()]].concat();
    run_as(namespace.plane().kubeconfig(), &arguments).await
}

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kubectl-pd/fixtures/import");
    folder.join(name).to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_is_shown_explained_stopped_and_started() {
    let stage = Stage::set("plugin").await.unwrap();
    stage.deploy(2, 2).await.unwrap();
    stage.load(2.0, 500.0, 50.0).unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let _controller = stage.controller("one").await.unwrap();
    stage
        .until_condition("llama", "Ready", "True", &["Ready"])
        .await
        .unwrap();
    let namespace = &stage.namespace;

    let table = run(namespace, &["status"]).await.with(0);
    let line = table.lines().nth(1).unwrap();
    assert!(
        table.starts_with("NAME ") && line.starts_with("llama "),
        "{table}"
    );
    assert!(line.contains("Auto") && line.contains("True"), "{table}");
    let list = run(namespace, &["status", "-o", "json"]).await.json(0);
    assert_eq!(
        (
            list["kind"].as_str(),
            list["items"][0]["metadata"]["name"].as_str()
        ),
        (Some("List"), Some("llama"))
    );
    let detail = run(namespace, &["status", "llama"]).await.with(0);
    assert!(
        detail.contains("Deployment/llama-prefill") && detail.contains("MetricsAvailable"),
        "{detail}"
    );
    let prose = run(namespace, &["explain", "llama"]).await.with(0);
    assert!(
        prose.contains("The reason is ") && prose.contains("Replicas that the objective needs"),
        "{prose}"
    );

    it_is_stopped_and_started(&stage).await;
    preflight_sees_what_is_there(&stage).await;
}

async fn it_is_stopped_and_started(stage: &Stage) {
    let namespace = &stage.namespace;
    let said = run(namespace, &["pause", "llama"]).await.with(0);
    assert!(said.contains("goes back to Auto"), "{said}");
    assert_eq!(
        stage.object("llama").await.unwrap().spec.mode,
        Mode::Recommend
    );
    stage
        .until_condition("llama", "Ready", "True", &["Recommended"])
        .await
        .unwrap();
    let answer = run(namespace, &["why-not", "llama", "-o", "json"])
        .await
        .json(1);
    let reasons: Vec<&str> = answer["blockers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["reason"].as_str())
        .collect();
    assert_eq!(reasons.first(), Some(&"Recommended"), "{answer}");
    run(namespace, &["resume", "llama", "--dry-run=server"])
        .await
        .with(0);
    assert_eq!(
        stage.object("llama").await.unwrap().spec.mode,
        Mode::Recommend
    );
    run(namespace, &["resume", "llama"]).await.with(0);
    let object = stage.object("llama").await.unwrap();
    assert_eq!(object.spec.mode, Mode::Auto);
    assert!(object.metadata.annotations.unwrap_or_default().is_empty());

    run(namespace, &["pause", "llama", "--only=down"])
        .await
        .with(0);
    stage
        .until_condition("llama", "Paused", "True", &["Paused"])
        .await
        .unwrap();
    let text = run(namespace, &["why-not", "llama"]).await.with(1);
    assert!(text.contains("Paused keeps back scaling"), "{text}");
    run(namespace, &["resume", "llama"]).await.with(0);
    stage
        .until_condition("llama", "Paused", "False", &["NotPaused"])
        .await
        .unwrap();
}

/// The chart's release runs as a process here, so that its Deployment has no ready pod; all else
/// is as it should be.
async fn preflight_sees_what_is_there(stage: &Stage) {
    let namespace = &stage.namespace;
    let prometheus = stage.prometheus.url();
    let flags = [
        "preflight",
        "-o",
        "json",
        "--prometheus-url",
        prometheus.as_str(),
    ];
    eventually("a preflight without failures", DEADLINE, async || {
        let ran = run(namespace, &flags).await;
        let checks: Value = serde_json::from_str(&ran.out).map_err(|_| format!("{ran:?}"))?;
        let checks = checks["checks"].as_array().unwrap().clone();
        let about = |topic: &str, subject: &str| {
            let of_subject = |one: &&Value| {
                one["topic"] == topic && one["subject"].as_str().unwrap().contains(subject)
            };
            let found: Vec<&Value> = checks.iter().filter(of_subject).collect();
            !found.is_empty() && found.iter().all(|one| one["verdict"] == "Ok")
        };
        let own = namespace.name();
        let there = [
            about("Crd", "pdautoscalers"),
            about("Lease", own),
            about("YourRights", "you"),
            about("ControllerRights", own),
            about("Prometheus", "http"),
            about("Target", own),
        ];
        if there.iter().all(|is_there| *is_there) {
            Ok(())
        } else {
            Err(format!("{there:?} {checks:#?}"))
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_imported_is_taken_by_the_api_server() {
    let plane = prepared_cluster().await.unwrap();
    let namespace = Namespace::create(plane, "import").await.unwrap();
    let sources = [
        ("hpa", "-f", "hpa.yaml"),
        ("keda", "-f", "scaledobject.yaml"),
        ("dynamo", "-f", "dynamo-v1beta1.yaml"),
        ("dynamo", "-f", "dynamo-v1alpha1.yaml"),
        ("aiconfigurator", "--", "aiconfigurator"),
    ];
    for (source, flag, file) in sources {
        let file = fixture(file);
        let limits = ["--ttft=600ms", "--tpot=40ms"];
        // Flags before `--`, behind which all is a directory.
        let namespace_flag = format!("--namespace={}", namespace.name());
        let arguments = [
            "import",
            source,
            limits[0],
            limits[1],
            &namespace_flag,
            flag,
            &file,
        ];
        let manifest = run_as(plane.kubeconfig(), &arguments).await.with(0);
        let mut object: Value = serde_saphyr::from_str(&manifest).unwrap();
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("namespace");
        namespace.apply(&object.to_string()).await.unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let status = run(&namespace, &["status", name, "-o", "json"])
            .await
            .json(0);
        assert_eq!(status["spec"]["mode"], "Recommend", "{manifest}");
        namespace.kubectl(&["delete", "pda", name]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hpas_of_the_cluster_are_read_and_their_object_is_seen_by_nobody_yet() {
    let plane = prepared_cluster().await.unwrap();
    let namespace = Namespace::create(plane, "hpa").await.unwrap();
    for role in ["prefill", "decode"] {
        namespace
            .apply(&workload("Deployment", role, 2).to_string())
            .await
            .unwrap();
        let name = format!("llama-{role}");
        let hpa = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": name },
            "spec": { "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
                "minReplicas": 2, "maxReplicas": 9,
                "metrics": [{ "type": "Resource", "resource": { "name": "cpu",
                    "target": { "type": "Utilization", "averageUtilization": 80 } } }] },
        });
        namespace.apply(&hpa.to_string()).await.unwrap();
    }
    let refused = run(&namespace, &["import", "hpa"]).await;
    assert!(refused.err.contains("--ttft"), "{refused:?}");
    refused.with(5);
    let flags = ["import", "hpa", "--ttft=1s", "--tpot=50ms"];
    let manifest = run(&namespace, &flags).await.with(0);
    assert!(
        manifest.contains("Resource cpu Utilization 80"),
        "{manifest}"
    );
    namespace.apply(&manifest).await.unwrap();
    // No controller runs here.
    let text = run(&namespace, &["why-not", "llama"]).await.with(1);
    assert!(
        text.contains("No controller has looked at the object yet"),
        "{text}"
    );
    let text = run(&namespace, &["explain", "llama"]).await.with(0);
    assert!(text.contains("nothing has been decided yet"), "{text}");
    let checks = run(&namespace, &["preflight", "-o", "json"]).await;
    assert!(
        checks
            .out
            .contains("HorizontalPodAutoscaler `llama-prefill` sets the replicas"),
        "{checks:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_how_it_ended() {
    let plane = prepared_cluster().await.unwrap();
    let namespace = Namespace::create(plane, "exit").await.unwrap();
    run(&namespace, &["status"]).await.with(0);
    let missing = run(&namespace, &["explain", "nobody"]).await;
    assert!(missing.err.contains("`nobody`"), "{missing:?}");
    missing.with(4);
    run(&namespace, &["status", "--no-such-flag"]).await.with(2);
    let object = autoscaler("llama", "Deployment", &json!({ "mode": "Recommend" }));
    namespace.apply(&object.to_string()).await.unwrap();
    let unclear = run(&namespace, &["resume", "llama"]).await;
    assert!(unclear.err.contains("--to=Auto"), "{unclear:?}");
    unclear.with(5);
    let stranger = plane.kubeconfig_for_user("stranger").unwrap();
    let refused = run_as(&stranger, &["status", "-n", namespace.name()]).await;
    assert!(refused.err.contains("forbidden"), "{refused:?}");
    refused.with(3);
    let nowhere = tempfile::tempdir().unwrap();
    let kubeconfig = nowhere.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:1" } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": {} }],
    });
    fs::write(&kubeconfig, text.to_string()).unwrap();
    run_as(&kubeconfig, &["preflight"]).await.with(3);
    run_as(&kubeconfig, &["status", "--context", "other"])
        .await
        .with(3);
}
