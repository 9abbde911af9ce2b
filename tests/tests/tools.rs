//! Where the programs of a control plane come from, tried with stand-ins that only tell a version.
//!
//! The command `pd-cluster tools` runs with an empty cache and no Go, so that whatever it does not
//! find it must ask for.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::Mutex,
};

use pd_tests::{binaries::workspace_binary, tools::KubernetesVersion};

/// A program cannot be run while a process forked by another thread still has it open for writing,
/// so the tests write and fork one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Installs stand-ins for all programs, etcd in a version of choice.
fn install(directory: &Path, etcd: &str) {
    let _turn = TURN.lock().unwrap();
    let kubernetes = format!("Kubernetes v{}", KubernetesVersion::shipped());
    let answers = [
        ("etcd", format!("etcd Version: {etcd}")),
        ("kube-apiserver", kubernetes.clone()),
        ("kube-controller-manager", kubernetes.clone()),
        ("kube-scheduler", kubernetes.clone()),
        (
            "kubectl",
            kubernetes.replace("Kubernetes", "Client Version:"),
        ),
        (
            "kwok",
            "kwok version v0.8.0 go1.26.8 (linux/amd64)".to_owned(),
        ),
        (
            "prometheus",
            "prometheus, version 3.5.0 (branch: HEAD, revision: 1)".to_owned(),
        ),
        (
            "promtool",
            "promtool, version 3.5.0 (branch: HEAD, revision: 1)".to_owned(),
        ),
        ("helm", "v3.19.0+g1234567".to_owned()),
    ];
    for (name, answer) in answers {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn tools(assets: &Path, path: &Path, cache: &Path) -> Output {
    let _turn = TURN.lock().unwrap();
    Command::new(env!("CARGO_BIN_EXE_pd-cluster"))
        .arg("tools")
        .env("KUBEBUILDER_ASSETS", assets)
        .env("PATH", path)
        .env("XDG_CACHE_HOME", cache)
        .env_remove("PD_KUBERNETES_VERSION")
        .output()
        .unwrap()
}

#[test]
fn assets_come_before_the_path_and_nothing_is_built() {
    let [assets, path, cache] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    install(assets.path(), "3.6.0");
    install(path.path(), "3.6.0");
    let output = tools(assets.path(), path.path(), cache.path());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert_eq!(printed.lines().count(), 9);
    assert!(
        printed
            .lines()
            .all(|line| line.contains(&*assets.path().to_string_lossy()))
    );
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
}

#[test]
fn a_program_that_is_too_old_is_passed_over() {
    let [assets, path, cache] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    install(assets.path(), "3.5.21");
    install(path.path(), "3.6.1");
    let output = tools(assets.path(), path.path(), cache.path());
    let printed = String::from_utf8(output.stdout).unwrap();
    let etcd = printed
        .lines()
        .find(|line| line.starts_with("etcd"))
        .unwrap();
    assert!(
        etcd.ends_with(&*path.path().join("etcd").to_string_lossy()),
        "{etcd}"
    );
}

#[test]
fn without_go_the_error_names_what_is_missing_and_the_remedy() {
    let [assets, path, cache] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    install(assets.path(), "3.5.21");
    let output = tools(assets.path(), path.path(), cache.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains("no recent enough etcd in KUBEBUILDER_ASSETS or PATH"),
        "{said}"
    );
    assert!(said.contains("the `go` command is not on PATH"), "{said}");
    assert!(said.contains("https://go.dev/doc/install"), "{said}");
}

#[test]
fn the_products_programs_are_built_for_a_test_that_asks() {
    let path = workspace_binary("pd-autoscaler").unwrap();
    let _turn = TURN.lock().unwrap();
    let output = Command::new(path).arg("--help").output().unwrap();
    assert!(output.status.success());
}
