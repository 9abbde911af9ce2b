//! Runs the `go` command in a module's directory.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

use super::ToolsError;
use crate::text::tail;

/// Runs the Go command in a directory and gives its standard output.
pub(super) fn go(directory: &Path, arguments: &[&str]) -> Result<String, ToolsError> {
    let output = Command::new("go")
        .args(arguments)
        .current_dir(directory)
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .output()
        .map_err(go_not_started)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(ToolsError::Build {
        label: format!("go {}", arguments.join(" ")),
        log: tail(&String::from_utf8_lossy(&output.stderr), 20),
    })
}

pub(super) fn go_not_started(error: io::Error) -> ToolsError {
    match error.kind() {
        io::ErrorKind::NotFound => ToolsError::GoMissing,
        _ => ToolsError::io(Path::new("go"))(error),
    }
}
