//! Child processes that cannot outlive the test, and a directory that cannot either.
//!
//! A test process may end in ways that run no destructor: a static cluster is never dropped, a
//! panic may abort, a developer may press Ctrl-C or `kill -9`. So the children belong to a small
//! second process, the supervisor (`pd-cluster supervise`), which holds one end of a pipe; the
//! kernel closes the other end when the owner dies, and the supervisor then kills the children and
//! removes their directory.
//!
//! [`Supervisor`] is the owner's side. It is tied to no async runtime, because tests that share a
//! cluster each have a runtime of their own.

mod protocol;
mod server;

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

pub use protocol::{ProcessSpec, Signal};
pub use server::serve;

use protocol::{Event, Request};

/// How long the supervisor may take to end its children and remove its directory.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// Why processes cannot be supervised.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The supervisor's program is not there.
    #[error(
        "the supervisor program `pd-cluster` is not at `{}`: build it with `cargo build -p pd-tests`, or name it in PD_CLUSTER",
        .0.display()
    )]
    ProgramMissing(PathBuf),
    /// The supervisor or its directory could not be set up, or it died.
    #[error("the supervisor failed to {action}")]
    Io {
        /// The step that failed.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("`{name}` (`{}`) could not be started: {reason}", program.display())]
    Refused {
        /// The process's name.
        name: String,
        /// The program's path.
        program: PathBuf,
        /// The operating system's reason.
        reason: String,
    },
    /// The process did not reach the awaited state.
    #[error("`{name}` was still {state} after {seconds} s")]
    Timeout {
        /// The process's name.
        name: String,
        /// The state it was in.
        state: &'static str,
        /// How long was waited, in seconds.
        seconds: u64,
    },
}

/// A supervisor with its own temporary directory. Dropping the last clone kills all its processes
/// and removes the directory, unless the variable `PD_KEEP` is set.
#[derive(Debug, Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    keep: bool,
    child: Mutex<Child>,
    requests: Mutex<Option<ChildStdin>>,
    processes: Arc<Mutex<HashMap<u64, watch::Sender<State>>>>,
    next_id: AtomicU64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Starting,
    Running { pid: u32, stopped: bool },
    Refused(String),
    Exited { status: String, success: bool },
}

impl Supervisor {
    /// Starts a supervisor whose directory's name begins with `prefix`.
    pub fn start(prefix: &str) -> Result<Self, SupervisorError> {
        let program = program()?;
        let keep = keeps_files();
        let directory = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .map_err(|source| SupervisorError::Io {
                action: "make its directory",
                source,
            })?;
        let mut command = Command::new(&program);
        command
            .arg("supervise")
            .arg("--directory")
            .arg(directory.path())
            .args(keep.then_some("--keep"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|source| SupervisorError::Io {
            action: "start its process",
            source,
        })?;
        let requests = child.stdin.take();
        let processes = Arc::default();
        if let Some(events) = child.stdout.take() {
            let processes = Arc::clone(&processes);
            std::thread::spawn(move || follow_events(events, &processes));
        }
        let directory = directory.keep();
        if keep {
            crate::text::say(&format!(
                "PD_KEEP: files are kept in {}",
                directory.display()
            ));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                directory,
                keep,
                child: Mutex::new(child),
                requests: Mutex::new(requests),
                processes,
                next_id: AtomicU64::new(0),
            }),
        })
    }

    /// The supervisor's temporary directory.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Where a process named `name` logs by default.
    pub fn log_path(&self, name: &str) -> PathBuf {
        server::log_path(&self.inner.directory, name)
    }

    /// Starts a process; it is killed when the returned handle is dropped.
    pub async fn spawn(&self, spec: ProcessSpec) -> Result<Process, SupervisorError> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = watch::channel(State::Starting);
        lock(&self.inner.processes).insert(id, sender);
        let log = spec
            .log
            .clone()
            .unwrap_or_else(|| self.log_path(&spec.name));
        let guard = Arc::new(Guard {
            id,
            inner: Arc::clone(&self.inner),
        });
        let process = Process {
            spec: spec.clone(),
            log,
            state: receiver,
            guard,
        };
        self.inner.request(&Request::Start { id, spec })?;
        let state = process
            .wait_until(Duration::from_secs(10), "starting", |state| {
                *state != State::Starting
            })
            .await?;
        match state {
            State::Refused(reason) => Err(SupervisorError::Refused {
                name: process.spec.name.clone(),
                program: process.spec.program.clone(),
                reason,
            }),
            _ => Ok(process),
        }
    }
}

impl Inner {
    fn request(&self, request: &Request) -> Result<(), SupervisorError> {
        let failed = |source| SupervisorError::Io {
            action: "take an order",
            source,
        };
        let mut line = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        match lock(&self.requests).as_mut() {
            Some(pipe) => pipe
                .write_all(&line)
                .and_then(|()| pipe.flush())
                .map_err(failed),
            None => Err(failed(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(lock(&self.requests).take());
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        let mut child = lock(&self.child);
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                crate::text::say(
                    "the supervisor did not end in time; it still cleans up by itself",
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if !self.keep {
            // Left over only when the supervisor itself was killed.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// A running child process; dropping the last clone kills the process.
#[derive(Debug, Clone)]
pub struct Process {
    spec: ProcessSpec,
    log: PathBuf,
    state: watch::Receiver<State>,
    guard: Arc<Guard>,
}

#[derive(Debug)]
struct Guard {
    id: u64,
    inner: Arc<Inner>,
}

impl Process {
    /// The process that was started.
    pub fn spec(&self) -> &ProcessSpec {
        &self.spec
    }

    /// The operating system's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        match *self.state.borrow() {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// How the process ended ("exit status: 1"), or `None` while it runs.
    pub fn exit_status(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Exited { status, .. } => Some(status.clone()),
            _ => None,
        }
    }

    /// Sends a signal to the process and its children; no error when it has already ended.
    pub fn signal(&self, signal: Signal) -> Result<(), SupervisorError> {
        self.guard.signal(signal)
    }

    /// Waits for the end of the process; true when it ended by itself with status 0.
    pub async fn wait_exit(&self, timeout: Duration) -> Result<bool, SupervisorError> {
        let state = self
            .wait_until(timeout, "running", |state| {
                matches!(state, State::Exited { .. })
            })
            .await?;
        Ok(matches!(state, State::Exited { success: true, .. }))
    }

    /// Kills the process with SIGKILL and waits until it is gone.
    pub async fn kill(&self) -> Result<(), SupervisorError> {
        self.signal(Signal::Kill)?;
        self.wait_exit(Duration::from_secs(10)).await.map(|_| ())
    }

    /// Makes the process hang (SIGSTOP); returns when it does.
    pub async fn pause(&self) -> Result<(), SupervisorError> {
        self.signal(Signal::Stop)?;
        let hangs = |state: &State| !matches!(state, State::Running { stopped: false, .. });
        self.wait_until(Duration::from_secs(10), "running", hangs)
            .await
            .map(|_| ())
    }

    /// Ends a hang (SIGCONT).
    pub async fn resume(&self) -> Result<(), SupervisorError> {
        self.signal(Signal::Continue)?;
        let goes_on = |state: &State| !matches!(state, State::Running { stopped: true, .. });
        self.wait_until(Duration::from_secs(10), "stopped", goes_on)
            .await
            .map(|_| ())
    }

    /// The file with the process's standard output and standard error.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All the process has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines the process has written.
    pub fn log_tail(&self) -> String {
        crate::text::tail(&self.log(), 30)
    }

    async fn wait_until(
        &self,
        timeout: Duration,
        state: &'static str,
        reached: impl FnMut(&State) -> bool,
    ) -> Result<State, SupervisorError> {
        let mut receiver = self.state.clone();
        let waited = tokio::time::timeout(timeout, receiver.wait_for(reached)).await;
        match waited {
            Ok(Ok(state)) => Ok(state.clone()),
            Ok(Err(_)) => Err(SupervisorError::Io {
                action: "stay alive",
                source: io::ErrorKind::BrokenPipe.into(),
            }),
            Err(_) => Err(SupervisorError::Timeout {
                name: self.spec.name.clone(),
                state,
                seconds: timeout.as_secs(),
            }),
        }
    }
}

impl Guard {
    fn signal(&self, signal: Signal) -> Result<(), SupervisorError> {
        self.inner.request(&Request::Signal {
            id: self.id,
            signal,
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A supervisor that takes no orders any more has killed the process already.
        let _ = self.signal(Signal::Kill);
    }
}

/// The change that an event makes to the state of a process.
enum News {
    State(State),
    Hang(bool),
}

fn follow_events(events: ChildStdout, processes: &Mutex<HashMap<u64, watch::Sender<State>>>) {
    for line in BufReader::new(events).lines() {
        let Ok(event) = line
            .map_err(io::Error::other)
            .and_then(|line| Ok(serde_json::from_str(&line)?))
        else {
            break;
        };
        let (id, news) = match event {
            Event::Started { id, pid } => (
                id,
                News::State(State::Running {
                    pid,
                    stopped: false,
                }),
            ),
            Event::Refused { id, reason } => (id, News::State(State::Refused(reason))),
            Event::Stopped { id } => (id, News::Hang(true)),
            Event::Continued { id } => (id, News::Hang(false)),
            Event::Exited {
                id,
                status,
                success,
            } => (id, News::State(State::Exited { status, success })),
        };
        if let Some(sender) = lock(processes).get(&id) {
            sender.send_modify(|state| match (news, state) {
                (News::State(new), state) => *state = new,
                (News::Hang(hangs), State::Running { stopped, .. }) => *stopped = hangs,
                (News::Hang(_), _) => {}
            });
        }
    }
    // Whoever still waits learns that the supervisor is gone.
    lock(processes).clear();
}

/// Where `pd-cluster` is: named by `PD_CLUSTER`, or beside the running program or above it (test
/// programs are in `target/PROFILE/deps`, cargo puts the binaries of the package in
/// `target/PROFILE`).
fn program() -> Result<PathBuf, SupervisorError> {
    if let Some(path) = std::env::var_os("PD_CLUSTER") {
        return Ok(path.into());
    }
    let running = std::env::current_exe().map_err(|source| SupervisorError::Io {
        action: "find its program",
        source,
    })?;
    let candidates = running
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("pd-cluster"));
    let mut missing = PathBuf::from("pd-cluster");
    for candidate in candidates {
        if candidate.is_file() {
            return Ok(candidate);
        }
        missing = candidate;
    }
    Err(SupervisorError::ProgramMissing(missing))
}

/// Whether the developer asked by `PD_KEEP` to leave what tests made.
pub(crate) fn keeps_files() -> bool {
    std::env::var_os("PD_KEEP").is_some_and(|value| !value.is_empty() && value != "0")
}

/// A panic elsewhere leaves these maps whole, so a poisoned lock is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
