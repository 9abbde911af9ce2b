//! The control plane itself under test: it is real, quick, survives the loss of its parts, and
//! leaves nothing behind however its owner ends.
//!
//! Tests that only use the cluster share one; tests that break it start their own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step of a test ends it"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Node, Pod},
};
use kube::{
    Api,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use pd_tests::{
    control_plane::{
        Component, ControlPlane, GPU_RESOURCE, Namespace, NodeSpec, Options, ZONE_LABEL,
        eventually, shared,
    },
    prometheus::{Prometheus, PrometheusOptions},
    supervisor::{ProcessSpec, Signal, Supervisor},
    tools::{KubernetesVersion, Tools},
};

const DEADLINE: Duration = Duration::from_mins(1);

fn deployment(name: &str, replicas: i32, gpus: u32, annotations: &serde_json::Value) -> Deployment {
    serde_json::from_value(serde_json::json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name }, "annotations": annotations },
                "spec": {
                    "containers": [{
                        "name": "engine",
                        "image": "vllm/vllm-openai",
                        "resources": { "limits": { GPU_RESOURCE: gpus.to_string() } },
                    }],
                },
            },
        },
    }))
    .unwrap()
}

async fn ready_replicas(deployments: &Api<Deployment>, name: &str, wanted: i32) {
    eventually(&format!("{wanted} ready replicas"), DEADLINE, async || {
        let found = deployments
            .get(name)
            .await
            .map_err(|error| error.to_string())?;
        let ready = found
            .status
            .and_then(|status| status.ready_replicas)
            .unwrap_or_default();
        if ready == wanted {
            Ok(())
        } else {
            Err(format!("{ready}"))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_built_plane_is_up_in_ten_seconds_with_gpu_nodes() {
    let version = KubernetesVersion::from_environment().unwrap();
    // Building the programs is not part of the start.
    tokio::task::spawn_blocking(move || Tools::locate_or_build(version))
        .await
        .unwrap()
        .unwrap();
    let started = Instant::now();
    let options = Options {
        nodes: vec![NodeSpec {
            count: 5,
            gpus: 8,
            nodes_per_rack: 2,
            ..NodeSpec::default()
        }],
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let took = started.elapsed();
    // Past the harness's capture: the figure is of interest when the test passes.
    writeln!(
        io::stderr(),
        "control plane with 5 nodes: {:.1} s",
        took.as_secs_f64()
    )
    .unwrap();

    let nodes = Api::<Node>::all(plane.client().await.unwrap());
    let nodes = nodes.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(nodes.len(), 5);
    for node in nodes {
        let status = node.status.unwrap();
        assert_eq!(status.allocatable.unwrap()[GPU_RESOURCE].0, "8");
        let conditions = status.conditions.unwrap();
        let ready = conditions
            .iter()
            .find(|condition| condition.type_ == "Ready")
            .unwrap();
        assert_eq!(ready.status, "True");
    }
    let version = plane.kubectl(&["version", "--output=json"]).await.unwrap();
    let version: serde_json::Value = serde_json::from_str(&version).unwrap();
    let expected = format!("v{}", plane.tools().kubernetes_version);
    assert_eq!(version["serverVersion"]["gitVersion"], expected.as_str());
    // The limit holds on an idle machine with two cores; a busy one gets three times as long.
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test]
async fn gpu_pods_are_scheduled_and_become_ready() {
    let plane = shared().await.unwrap();
    let labels = BTreeMap::from([("pool".to_owned(), "schedule".to_owned())]);
    let spec = NodeSpec {
        prefix: "schedule".to_owned(),
        count: 2,
        gpus: 4,
        labels,
        ..NodeSpec::default()
    };
    plane.add_nodes(&spec).await.unwrap();
    let namespace = Namespace::create(plane, "schedule").await.unwrap();
    let client = namespace.client().await.unwrap();
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let mut wanted = deployment("decode", 3, 4, &serde_json::json!({}));
    let pod_spec = wanted
        .spec
        .as_mut()
        .unwrap()
        .template
        .spec
        .as_mut()
        .unwrap();
    pod_spec.node_selector = Some(BTreeMap::from([("pool".to_owned(), "schedule".to_owned())]));
    deployments
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();

    // Two nodes of four GPUs hold two pods of four; the third has no place until one more node
    // comes.
    ready_replicas(&deployments, "decode", 2).await;
    let pods = Api::<Pod>::default_namespaced(client);
    eventually("an unschedulable pod", DEADLINE, async || {
        let pods = pods
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let conditions = pods
            .into_iter()
            .filter_map(|pod| pod.status?.conditions)
            .flatten();
        let mut reasons = conditions.filter_map(|condition| condition.reason);
        reasons
            .find(|reason| reason == "Unschedulable")
            .map(|_| ())
            .ok_or("none".to_owned())
    })
    .await
    .unwrap();
    let more = NodeSpec {
        prefix: "schedule-more".to_owned(),
        count: 1,
        ..spec
    };
    plane.add_nodes(&more).await.unwrap();
    ready_replicas(&deployments, "decode", 3).await;

    // Scaling through the subresource, as the autoscaler does.
    let scale = Patch::Merge(serde_json::json!({ "spec": { "replicas": 1 } }));
    deployments
        .patch_scale("decode", &PatchParams::default(), &scale)
        .await
        .unwrap();
    eventually("two pods gone", DEADLINE, async || {
        let count = pods.list(&ListParams::default()).await.unwrap().items.len();
        if count == 1 {
            Ok(())
        } else {
            Err(count.to_string())
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_pod_can_be_slow_to_become_ready() {
    let plane = shared().await.unwrap();
    let spec = NodeSpec {
        prefix: "slow".to_owned(),
        ..NodeSpec::default()
    };
    plane.add_nodes(&spec).await.unwrap();
    let namespace = Namespace::create(plane, "slow").await.unwrap();
    let deployments = Api::<Deployment>::default_namespaced(namespace.client().await.unwrap());
    let annotations = serde_json::json!({ "tests.pdautoscaler.io/ready-after": "3s" });
    let wanted = deployment("prefill", 1, 0, &annotations);
    let started = Instant::now();
    deployments
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();
    ready_replicas(&deployments, "prefill", 1).await;
    assert!(
        started.elapsed() >= Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_namespace_goes_with_its_owner() {
    let plane = shared().await.unwrap();
    let namespace = Namespace::create(plane, "gone").await.unwrap();
    let name = namespace.name().to_owned();
    drop(namespace);
    let namespaces =
        Api::<k8s_openapi::api::core::v1::Namespace>::all(plane.client().await.unwrap());
    eventually(
        "the namespace to be gone",
        DEADLINE,
        async || match namespaces
            .get_opt(&name)
            .await
            .map_err(|error| error.to_string())?
        {
            None => Ok(()),
            Some(namespace) => Err(format!("{:?}", namespace.status)),
        },
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn feature_gates_and_taints_reach_kubernetes() {
    let plane = ControlPlane::start(Options {
        feature_gates: BTreeMap::from([("TaintTolerationComparisonOperators".to_owned(), true)]),
        scheduler: false,
        nodes: vec![NodeSpec {
            taints: vec![
                serde_json::from_value(serde_json::json!(
                    { "key": "price", "value": "7", "effect": "NoSchedule" }
                ))
                .unwrap(),
            ],
            nodes_per_rack: 1,
            racks_per_block: 1,
            blocks_per_zone: 1,
            ..NodeSpec::default()
        }],
        ..Options::default()
    })
    .await
    .unwrap();
    let gates = plane.kubectl(&["get", "--raw=/metrics"]).await.unwrap();
    let gate = gates
        .lines()
        .find(|line| line.contains("\"TaintTolerationComparisonOperators\""))
        .expect("the gate is known");
    assert!(gate.ends_with(" 1"), "{gate}");
    let nodes = Api::<Node>::all(plane.client().await.unwrap());
    let node = nodes.get("gpu-0").await.unwrap();
    assert_eq!(node.spec.unwrap().taints.unwrap()[0].key, "price");
    assert_eq!(node.metadata.labels.unwrap()[ZONE_LABEL], "gpu-zone-0");
    let error = plane.restart(Component::Kwok).await;
    assert!(error.is_ok(), "{error:?}");
    assert!(plane.process(Component::Scheduler).is_err());
}

#[tokio::test]
async fn a_killed_api_server_comes_back_with_its_data() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let maps = Api::<ConfigMap>::default_namespaced(plane.client().await.unwrap());
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some("kept".to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &map).await.unwrap();
    plane.kill(Component::ApiServer).await.unwrap();
    assert!(maps.get("kept").await.is_err());
    plane.restart(Component::ApiServer).await.unwrap();
    maps.get("kept").await.unwrap();

    plane.restart(Component::Etcd).await.unwrap();
    eventually("the API server to reach etcd again", DEADLINE, async || {
        maps.get("kept").await.map_err(|error| error.to_string())
    })
    .await
    .unwrap();

    plane.pause(Component::ApiServer).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(500), maps.get("kept")).await;
    assert!(answer.is_err(), "a stopped server does not answer");
    plane.resume(Component::ApiServer).await.unwrap();
    maps.get("kept").await.unwrap();
}

#[tokio::test]
async fn a_component_that_cannot_start_fails_at_once_with_its_log() {
    let options = Options {
        api_server_arguments: vec!["--no-such-flag".to_owned()],
        ..Options::default()
    };
    let started = Instant::now();
    let error = ControlPlane::start(options).await.unwrap_err().to_string();
    assert!(
        error.contains("kube-apiserver") && error.contains("no-such-flag"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn helm_and_a_service_account_work_against_it() {
    let plane = shared().await.unwrap();
    let namespace = Namespace::create(plane, "helm").await.unwrap();
    let chart = tempfile::tempdir().unwrap();
    fs::create_dir(chart.path().join("templates")).unwrap();
    fs::write(
        chart.path().join("Chart.yaml"),
        "apiVersion: v2\nname: probe\nversion: 0.1.0\n",
    )
    .unwrap();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\n";
    fs::write(chart.path().join("templates/map.yaml"), map).unwrap();
    let chart = chart.path().to_string_lossy();
    let installed = plane
        .helm(&["install", "probe", &chart, "--namespace", namespace.name()])
        .await
        .unwrap();
    assert!(installed.contains("STATUS: deployed"), "{installed}");
    namespace
        .kubectl(&["get", "configmap", "probe"])
        .await
        .unwrap();

    let kubeconfig = plane
        .kubeconfig_for_service_account(namespace.name(), "default")
        .await
        .unwrap();
    let kubeconfig = kubeconfig.to_string_lossy();
    let refused = namespace
        .kubectl(&["--kubeconfig", &kubeconfig, "get", "configmap", "probe"])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("Forbidden") && refused.contains(":default\""),
        "{refused}"
    );
}

#[tokio::test]
async fn prometheus_scrapes_and_keeps_its_data_over_a_kill() {
    // Prometheus scrapes itself, found through file discovery.
    let targets = tempfile::tempdir().unwrap();
    let options = PrometheusOptions {
        file_sd_directories: vec![targets.path().to_owned()],
        ..PrometheusOptions::default()
    };
    let prometheus = Prometheus::start(&options).await.unwrap();
    prometheus.check_configuration().await.unwrap();
    let address = prometheus.url().replace("http://", "");
    let groups = serde_json::json!([{ "targets": [address], "labels": { "role": "prefill" } }]);
    fs::write(targets.path().join("self.json"), groups.to_string()).unwrap();
    let count = async || -> Result<f64, String> {
        let query = "count_over_time(up{role=\"prefill\"}[10m])";
        let found = prometheus
            .query(query)
            .await
            .map_err(|error| error.to_string())?;
        Ok(found.first().map_or(0.0, |(_, count)| *count))
    };
    let enough = async || {
        let count = count().await?;
        if count >= 3.0 {
            Ok(count)
        } else {
            Err(format!("{count} scrapes"))
        }
    };
    let before = eventually("three scrapes", DEADLINE, enough).await.unwrap();

    prometheus.kill().await.unwrap();
    assert!(prometheus.query("up").await.is_err());
    prometheus.restart().await.unwrap();
    let after = count().await.unwrap();
    assert!(after >= before, "{before} {after}");
}

#[tokio::test]
async fn other_processes_run_under_the_same_supervision() {
    let supervisor = Supervisor::start("pd-supervised-").unwrap();
    let shell = |script: &str| ProcessSpec {
        name: "shell".to_owned(),
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        environment: vec![("GREETING".to_owned(), "hello".to_owned())],
        log: None,
    };
    let done = supervisor.spawn(shell("echo $GREETING")).await.unwrap();
    assert!(done.wait_exit(DEADLINE).await.unwrap());
    assert_eq!(done.log_tail(), "hello");

    let failed = supervisor.spawn(shell("exit 3")).await.unwrap();
    assert!(!failed.wait_exit(DEADLINE).await.unwrap());
    assert_eq!(failed.exit_status().unwrap(), "exit status: 3");

    let waiting = supervisor.spawn(shell("sleep 1000 & wait")).await.unwrap();
    let pid = waiting.pid().unwrap();
    waiting.signal(Signal::Terminate).unwrap();
    assert!(!waiting.wait_exit(DEADLINE).await.unwrap());
    eventually("the process to be gone", DEADLINE, async || gone(&[pid]))
        .await
        .unwrap();

    let missing = ProcessSpec {
        program: "/no/such/program".into(),
        ..shell("")
    };
    let error = supervisor.spawn(missing).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");

    let directory = supervisor.directory().to_owned();
    drop((done, failed, waiting, supervisor));
    assert!(!directory.exists());
}

#[tokio::test]
async fn nothing_is_left_after_kill_9_of_the_owner() {
    let (mut owner, directory) = start_owner();
    let processes = processes_with(&directory);
    assert!(
        processes.len() >= 6,
        "five components and their supervisor: {processes:?}"
    );
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("processes and files to be gone", DEADLINE, async || {
        gone(&processes)?;
        if directory.exists() {
            Err("the directory is there".to_owned())
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn nothing_is_left_after_an_interrupt() {
    let (mut owner, directory) = start_owner();
    let processes = processes_with(&directory);
    let pid = rustix::process::Pid::from_child(&owner);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(owner.wait().unwrap().success());
    gone(&processes).unwrap();
    assert!(!directory.exists());
}

/// Starts `pd-cluster up` and waits until it is up; gives its directory.
fn start_owner() -> (Child, PathBuf) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_pd-cluster"))
        .args(["up", "--nodes=1"])
        .env_remove("PD_KEEP")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let kubeconfig = lines
        .find_map(|line| {
            Some(
                line.unwrap()
                    .trim()
                    .strip_prefix("export KUBECONFIG=")?
                    .to_owned(),
            )
        })
        .expect("the cluster is up");
    let directory = Path::new(&kubeconfig)
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned();
    assert!(directory.is_dir());
    // The pipe stays open for what is printed after the line looked for.
    std::thread::spawn(move || lines.count());
    (owner, directory)
}

/// Processes with the directory in their command line.
fn processes_with(directory: &Path) -> Vec<u32> {
    let directory = directory.to_string_lossy();
    let found = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_string_lossy().parse().ok()?;
        let command_line = fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&command_line)
            .contains(&*directory)
            .then_some(pid)
    });
    found.collect()
}

fn gone(processes: &[u32]) -> Result<(), String> {
    let left: Vec<_> = processes
        .iter()
        .filter(|pid| Path::new("/proc").join(pid.to_string()).exists())
        .collect();
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("{left:?} still run"))
    }
}
