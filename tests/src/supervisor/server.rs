//! The supervising process itself: runs children, and ends with all of them when its owner dies.
//!
//! The owner holds the other end of standard input. However the owner ends (return, panic, Ctrl-C,
//! `kill -9`), the kernel closes that pipe; the supervisor then kills every child's process group,
//! waits for them, removes the directory and exits. Only a supervisor that is itself killed with
//! SIGKILL leaves children behind, so it runs in a process group of its own and nothing ever
//! signals it.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use super::protocol::{Event, ProcessSpec, Request, Signal};

/// Runs until standard input ends or the process is asked to terminate, then cleans up.
///
/// Removes `directory` at the end unless `keep` is set.
pub fn serve(directory: &Path, keep: bool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve_requests(directory));
    if !keep {
        remove_directory(directory)?;
    }
    served
}

async fn serve_requests(directory: &Path) -> io::Result<()> {
    let mut requests = read_requests();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut children: HashMap<u64, mpsc::UnboundedSender<Signal>> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        let Some(request) = request else { break };
        match request {
            Request::Start { id, spec } => match start(directory, &spec) {
                Ok(child) => {
                    emit(&Event::Started {
                        id,
                        pid: child.id().unwrap_or_default(),
                    });
                    let (sender, receiver) = mpsc::unbounded_channel();
                    children.insert(id, sender);
                    tasks.spawn(watch(id, child, receiver));
                }
                Err(error) => emit(&Event::Refused {
                    id,
                    reason: error.to_string(),
                }),
            },
            Request::Signal { id, signal } => {
                if let Some(sender) = children.get(&id) {
                    // A closed channel means that the process has already ended.
                    let _ = sender.send(signal);
                }
            }
        }
    }
    for sender in children.values() {
        let _ = sender.send(Signal::Kill);
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Requests from standard input, read by a thread of their own because a blocked read must not keep
/// the process from ending by signal. An unreadable request ends the stream like the owner's death.
fn read_requests() -> mpsc::UnboundedReceiver<Request> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let request = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(request) = request else { break };
            if sender.send(request).is_err() {
                break;
            }
        }
    });
    receiver
}

fn start(directory: &Path, spec: &ProcessSpec) -> io::Result<Child> {
    let path = spec
        .log
        .clone()
        .unwrap_or_else(|| log_path(directory, &spec.name));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let log = OpenOptions::new().create(true).append(true).open(path)?;
    Command::new(&spec.program)
        .args(&spec.arguments)
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Waits for one child. Signals go through here because only the task that reaps the child knows
/// that its process id is still its own.
async fn watch(id: u64, mut child: Child, mut signals: mpsc::UnboundedReceiver<Signal>) {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Some(signal) = signals.recv() => deliver(id, &child, signal).await,
        }
    };
    emit(&match status {
        Ok(status) => Event::Exited {
            id,
            status: status.to_string(),
            success: status.success(),
        },
        Err(error) => Event::Exited {
            id,
            status: error.to_string(),
            success: false,
        },
    });
}

async fn deliver(id: u64, child: &Child, signal: Signal) {
    let Some(pid) = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
    else {
        return;
    };
    let number = match signal {
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Terminate => rustix::process::Signal::TERM,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Continue => rustix::process::Signal::CONT,
    };
    // The group is gone when the process ended a moment ago, which is what was wanted.
    let _ = kill_process_group(pid, number);
    match signal {
        Signal::Stop if stopped(pid).await => emit(&Event::Stopped { id }),
        Signal::Continue => emit(&Event::Continued { id }),
        _ => {}
    }
}

/// Waits until the process hangs: the signal is on its way when `kill` returns, and threads on
/// other processors may still run. False when it ended instead.
async fn stopped(pid: Pid) -> bool {
    // The status is left for the one who reaps the child.
    let look = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    for _ in 0..1000 {
        match waitid(WaitId::Pid(pid), look) {
            Ok(Some(_)) => return true,
            Ok(None) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(_) => return false,
        }
    }
    false
}

/// Writes an event. A dead owner reads none, and the end of standard input will tell so.
fn emit(event: &Event) {
    if let Ok(line) = serde_json::to_string(event) {
        let mut output = io::stdout().lock();
        let _ = writeln!(output, "{line}").and_then(|()| output.flush());
    }
}

/// A process that was just killed may have a write in flight, so a first failure is tried again.
fn remove_directory(directory: &Path) -> io::Result<()> {
    for _ in 0..20 {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                std::thread::sleep(Duration::from_millis(50));
            }
            _ => return Ok(()),
        }
    }
    fs::remove_dir_all(directory)
}

/// Where a process named `name` logs when it does not say otherwise.
pub(super) fn log_path(directory: &Path, name: &str) -> PathBuf {
    directory.join("logs").join(format!("{name}.log"))
}
