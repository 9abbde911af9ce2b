//! A policy that runs as a process: one observation per line to it, one answer per line from it.
//!
//! The command is given to the shell. Reading and writing have threads of their own, so that a
//! process that neither reads nor answers ends in a time-out and not in a hang. A failure is
//! reported once, as the failure of a verdict; from then on nothing changes. The process is killed
//! with the policy.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use pd_core::{PerRole, Role};

use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::protocol::{Answer, ObservationLine, VERSION};
use crate::time::{MILLISECOND, Nanos};

/// A running process that decides.
#[derive(Debug)]
pub struct Process {
    command: String,
    child: Child,
    timeout: Duration,
    questions: Option<Sender<String>>,
    answers: Receiver<String>,
    failed: bool,
}

impl Process {
    /// Starts `command` with the shell; it has `timeout` for each decision.
    pub fn start(command: &str, timeout: Duration) -> Result<Self, String> {
        let error = |what: &str| format!("policy command `{command}` {what}");
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| error(&format!("cannot be started with `sh -c`: {source}")))?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(error("has no standard input or output"));
        };
        let (questions, asked) = mpsc::channel::<String>();
        let (answered, answers) = mpsc::channel();
        // Both threads end with the process, or when this policy goes.
        thread::spawn(move || {
            for line in asked {
                let written = writeln!(input, "{line}").and_then(|()| input.flush());
                if written.is_err() {
                    break;
                }
            }
        });
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if answered.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            command: command.to_owned(),
            child,
            timeout,
            questions: Some(questions),
            answers,
            failed: false,
        })
    }

    fn ask(&mut self, observation: &ObservationLine) -> Result<PerRole<u32>, String> {
        let line = observation.to_line().map_err(|error| error.to_string())?;
        if let Some(questions) = &self.questions {
            // A process that is gone is noticed by its missing answer.
            let _ = questions.send(line);
        }
        let answer = match self.answers.recv_timeout(self.timeout) {
            Ok(line) => Answer::read(&line).map_err(|error| format!("answered badly: {error}"))?,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.timeout.as_secs_f64();
                return Err(format!(
                    "gave no answer within {seconds} s: answer every line and flush, or raise --policy-timeout"
                ));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().map_err(|error| error.to_string())?;
                return Err(format!(
                    "ended before it answered ({status}): see what it wrote to standard error"
                ));
            }
        };
        match answer {
            Answer::Decided { replicas, .. } => Ok(replicas),
            Answer::Failed { error } => Err(format!("gave up: {error}")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A well-behaved process ends with its input; this one shall end anyhow.
        self.questions = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Autoscaler for Process {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let current = PerRole::from_fn(|role: Role| observation.current(role));
        if self.failed {
            return PolicyVerdict::of(current);
        }
        let line = ObservationLine {
            version: VERSION,
            time_milliseconds: i64::try_from(now / MILLISECOND).unwrap_or(i64::MAX),
            snapshot: observation.snapshot.clone(),
            replicas: None,
        };
        match self.ask(&line) {
            Ok(replicas) => PolicyVerdict::of(PerRole::from_fn(|role| {
                observation.bounded(role, replicas[role])
            })),
            Err(what) => {
                self.failed = true;
                let at = line.time_milliseconds as f64 / 1e3;
                PolicyVerdict {
                    failure: Some(format!(
                        "policy command `{}` {what} (at {at} s)",
                        self.command
                    )),
                    ..PolicyVerdict::of(current)
                }
            }
        }
    }

    fn reads(&self) -> Reads {
        Reads::Signals
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::observation::testing::{alike, observation};
    use super::*;

    fn decided(command: &str) -> PolicyVerdict {
        let seen = observation(PerRole {
            prefill: alike(2, 0.0, 0.0, 0.0),
            decode: alike(3, 0.0, 0.0, 0.0),
        });
        let mut process = Process::start(command, Duration::from_millis(500)).unwrap();
        process.decide(&seen, 0)
    }

    #[test]
    fn an_answer_decides_within_the_bounds() {
        let verdict =
            decided(r#"while read line; do echo '{"replicas":{"prefill":5,"decode":900}}'; done"#);
        assert_eq!(verdict.failure, None);
        assert_eq!(
            verdict.replicas,
            PerRole {
                prefill: 5,
                decode: 64
            }
        );
    }

    #[rstest]
    #[case::gone("exit 3", "ended before it answered (exit status: 3)")]
    #[case::unknown("no-such-policy-command 2>/dev/null", "ended before it answered")]
    #[case::silent("cat >/dev/null", "gave no answer within 0.5 s")]
    #[case::deaf("exec sleep 60", "gave no answer within 0.5 s")]
    #[case::nonsense(
        "read line; echo hello; cat",
        "answered badly: `hello` is not an answer"
    )]
    #[case::gives_up(
        r#"read line; echo '{"error":"no profile"}'; cat"#,
        "gave up: no profile"
    )]
    fn what_goes_wrong_is_told_and_changes_nothing(#[case] command: &str, #[case] want: &str) {
        let verdict = decided(command);
        let failure = verdict.failure.unwrap();
        assert!(
            failure.contains(want) && failure.contains(command),
            "{failure}"
        );
        assert_eq!(
            verdict.replicas,
            PerRole {
                prefill: 2,
                decode: 3
            }
        );
    }
}
