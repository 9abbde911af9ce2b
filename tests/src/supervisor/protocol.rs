//! The messages between the supervisor and its owner: one JSON object per line.
//!
//! Requests go down the supervisor's standard input, which is at the same time the lifeline: its
//! end of file means the owner is dead. Events come back on its standard output. Processes are
//! named by a number the owner chooses, so that a restarted component is a new process and a late
//! event of the old one is not mistaken for its own.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An order from the owner to the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Starts a process under a number not used before.
    Start {
        /// The owner's number for this process.
        id: u64,
        /// The program to run.
        spec: ProcessSpec,
    },
    /// Sends a signal to the process group of a running process; ignored when it is gone.
    Signal {
        /// The owner's number for the process.
        id: u64,
        /// Which signal.
        signal: Signal,
    },
}

/// Messages from the supervisor to its owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// The process runs.
    Started {
        /// The owner's number for this process.
        id: u64,
        /// The operating system's process id.
        pid: u32,
    },
    /// The process could not be started.
    Refused {
        /// The owner's number for this process.
        id: u64,
        /// Why.
        reason: String,
    },
    /// The process hangs, as was asked for.
    Stopped {
        /// The owner's number for this process.
        id: u64,
    },
    /// The process goes on after a hang.
    Continued {
        /// The owner's number for this process.
        id: u64,
    },
    /// The process ended and has been waited for: its ports and files are free.
    Exited {
        /// The owner's number for this process.
        id: u64,
        /// How it ended, in words ("exit status: 1").
        status: String,
        /// Whether it ended by itself with status 0.
        success: bool,
    },
}

/// A process to run: the program, its arguments and surroundings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Short name for messages and for the log file.
    pub name: String,
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables added to the environment inherited from the owner.
    pub environment: Vec<(String, String)>,
    /// Standard output and standard error are appended here; by default `logs/NAME.log` in the
    /// supervisor's directory.
    pub log: Option<PathBuf>,
}

/// The signals a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// SIGKILL: the crash.
    Kill,
    /// SIGTERM: the orderly end.
    Terminate,
    /// SIGSTOP: the hang.
    Stop,
    /// SIGCONT: the end of the hang.
    Continue,
}
