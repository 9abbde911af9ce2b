//! kubectl, helm and promtool, run against a cluster.
//!
//! Their home is the cluster's directory, so that they neither read nor leave anything in the
//! developer's: no kubeconfig, no helm repositories, no discovery cache.

use std::{path::Path, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use super::error::ControlPlaneError;

/// Runs a program with `home` as its home directory and gives its standard output.
pub(crate) async fn run(
    program: &Path,
    arguments: &[&str],
    home: &Path,
    kubeconfig: Option<&Path>,
    input: Option<&str>,
) -> Result<String, ControlPlaneError> {
    let failed = |source| ControlPlaneError::NotStarted {
        program: program.to_owned(),
        source,
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME")
        .env_remove("KUBECONFIG")
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    let mut child = command.spawn().map_err(failed)?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A program that ends without reading all its input says why on standard error.
        let _ = pipe.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    Err(ControlPlaneError::Command {
        command: format!("{name} {}", arguments.join(" ")),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
