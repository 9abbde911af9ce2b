//! Builds a tool from its Go module into the cache, once per machine and version.
//!
//! The build goes into a directory beside its destination, which is renamed when complete, so that
//! what is in the cache is always whole. A file lock makes parallel test processes wait for one
//! build instead of doing it again. Progress goes to standard error past the test harness's
//! capture, because a first run takes many minutes and silence would look like a hang.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    ToolsError,
    go::go_not_started,
    module::{Module, generate_kubernetes_module},
    version::KubernetesVersion,
};
use crate::text::{say, tail};

/// How often a build that goes on says so.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// The directory with the module's programs at `version`, built if it is not there. `reason` says
/// why no installed program was taken.
pub(super) fn cached_or_built(
    module: &Module,
    version: &str,
    kubernetes: KubernetesVersion,
    reason: &str,
) -> Result<PathBuf, ToolsError> {
    let cache = cache_directory()?;
    let label = format!("{}-{version}", module.name);
    let destination = cache.join(&label);
    if is_complete(module, &destination) {
        return Ok(destination);
    }
    fs::create_dir_all(&cache).map_err(ToolsError::io(&cache))?;
    let lock_path = cache.join(format!("{label}.lock"));
    let lock = File::create(&lock_path).map_err(ToolsError::io(&lock_path))?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        say(&format!("{label}: another process is building it; waiting"));
        lock.lock().map_err(ToolsError::io(&lock_path))?;
    }
    if is_complete(module, &destination) {
        return Ok(destination);
    }
    say(&format!(
        "{label}: building it ({reason}); about {} on two cores the first time",
        module.minutes
    ));
    let started = Instant::now();
    let shipped = module.shipped_version()?;
    let source = if version == shipped {
        module.shipped_directory()
    } else {
        let generated = cache.join("modules").join(&label);
        generate_kubernetes_module(module, kubernetes, &generated)?;
        generated
    };
    let partial = cache.join(format!(".{label}.partial"));
    remove_if_present(&partial)?;
    fs::create_dir_all(&partial).map_err(ToolsError::io(&partial))?;
    compile(
        module,
        version,
        &source,
        &partial,
        &cache.join(format!("{label}.log")),
    )?;
    for program in module.programs {
        let (from, to) = (partial.join(program.built_as), partial.join(program.name));
        fs::rename(&from, to).map_err(ToolsError::io(&from))?;
    }
    remove_if_present(&destination)?;
    fs::rename(&partial, &destination).map_err(ToolsError::io(&destination))?;
    say(&format!(
        "{label}: built in {} s",
        started.elapsed().as_secs()
    ));
    Ok(destination)
}

fn is_complete(module: &Module, directory: &Path) -> bool {
    module
        .programs
        .iter()
        .all(|program| directory.join(program.name).is_file())
}

fn remove_if_present(directory: &Path) -> Result<(), ToolsError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ToolsError::io(directory)(error))
        }
        _ => Ok(()),
    }
}

fn compile(
    module: &Module,
    version: &str,
    source: &Path,
    output: &Path,
    log_path: &Path,
) -> Result<(), ToolsError> {
    let log = File::create(log_path).map_err(ToolsError::io(log_path))?;
    let mut target = output.as_os_str().to_owned();
    target.push("/");
    let mut child = Command::new("go")
        .args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-ldflags",
            &module.linker_flags(version),
        ])
        .args(["-tags", module.tags, "-o"])
        .arg(target)
        .args(module.programs.iter().map(|program| program.package))
        .current_dir(source)
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(ToolsError::io(log_path))?)
        .stderr(log)
        .spawn()
        .map_err(go_not_started)?;
    let started = Instant::now();
    let mut reported = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(ToolsError::io(log_path))? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
        if started.elapsed() > reported + PROGRESS_INTERVAL {
            reported = started.elapsed();
            say(&format!(
                "{}-{version}: still building, {} s so far",
                module.name,
                reported.as_secs()
            ));
        }
    };
    if status.success() {
        return Ok(());
    }
    let log = fs::read_to_string(log_path).unwrap_or_default();
    Err(ToolsError::Build {
        label: format!("{}-{version}", module.name),
        log: tail(&log, 20),
    })
}

/// `$XDG_CACHE_HOME/pdautoscaler/tools`, or the same under `~/.cache`.
fn cache_directory() -> Result<PathBuf, ToolsError> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|cache| cache.join("pdautoscaler").join("tools"))
        .ok_or(ToolsError::NoCacheDirectory)
}
