//! A container's own words on its end: the engine's waits, its hook, and how long it keeps KV
//! blocks.
//!
//! Words are read wherever they stand, for commands come as lists and as one shell script. A value
//! that is no number, such as a variable of the shell, is not known, and nothing is claimed of it.

use serde_json::{Map, Value, json};

use super::{EndedBy, Limit};
use crate::json::{list, text};

/// Makes SGLang end its requests at once.
const FORCED: &str = "SGL_FORCE_SHUTDOWN";
/// Seconds for which vLLM keeps KV blocks, before it had leases (0.11 to 0.17).
const LEASE_BEFORE: &str = "VLLM_NIXL_ABORT_REQUEST_TIMEOUT";
/// Seconds for which vLLM keeps KV blocks, in the extra configuration of its connector.
const LEASE: &str = "kv_lease_duration";
/// Seconds for which vLLM goes on with its requests.
const TIMEOUT: &str = "--shutdown-timeout";

/// The preStop hook of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// It waits so many seconds.
    Sleep(u64),
    /// It does something else, and may take as long as it likes.
    Other,
}

/// The number of a setting, as far as it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    Seconds(u64),
    Unknown,
}

/// A container, as far as its end goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Engine {
    is_vllm: bool,
    timeout: Option<Setting>,
    hook: Option<Hook>,
    /// Whether its requests are made to end at once.
    pub(super) is_forced: bool,
    /// Seconds for which it keeps KV blocks for decode.
    pub(super) lease: Option<u64>,
}

impl Engine {
    pub(super) fn of(container: &Value) -> Self {
        let line = words(container).collect::<Vec<_>>().join(" ");
        let forced = env(container, FORCED);
        let lease = after(&line, LEASE).and_then(first_number);
        let before = || env(container, LEASE_BEFORE)?.parse().ok();
        Self {
            is_vllm: is_vllm(&line),
            timeout: timeout(&line),
            hook: hook(container),
            is_forced: matches!(forced, Some("1" | "true")),
            lease: lease.or_else(before),
        }
    }

    /// Seconds that hook and timeout take together, as far as they are known.
    pub(super) fn wait(&self) -> Option<u64> {
        let hook = match self.hook {
            Some(Hook::Sleep(seconds)) => seconds,
            Some(Hook::Other) | None => 0,
        };
        match self.timeout.filter(|_| self.is_vllm) {
            Some(Setting::Seconds(timeout)) => Some(hook.saturating_add(timeout)),
            Some(Setting::Unknown) | None => (hook > 0).then_some(hook),
        }
    }

    /// vLLM ends its requests at once unless it is given a time, or a hook keeps the signal away.
    pub(super) fn aborts_at_once(&self) -> bool {
        let waits = !matches!(self.timeout, None | Some(Setting::Seconds(0)));
        let hooked = !matches!(self.hook, None | Some(Hook::Sleep(0)));
        self.is_vllm && !waits && !hooked
    }

    /// The setting of the engine that ends its requests. Other engines end when their requests do,
    /// and a hook that is no mere wait may wait for them.
    pub(super) fn limit(&self) -> Option<Limit> {
        if !self.is_vllm || self.hook == Some(Hook::Other) || self.timeout == Some(Setting::Unknown)
        {
            return None;
        }
        let by = match self.timeout {
            None | Some(Setting::Seconds(0)) => EndedBy::Hook,
            Some(_) => EndedBy::ShutdownTimeout,
        };
        let seconds = self.wait()?;
        Some(Limit { seconds, by })
    }
}

/// The fields of `container` that traps are read from, and of them no more than that: commands and
/// variables may hold secrets.
pub fn kept(container: &Value) -> Map<String, Value> {
    let engine = Engine::of(container);
    let mut words = Vec::new();
    if engine.is_vllm {
        words.push("vllm serve".to_owned());
    }
    words.extend(engine.timeout.map(|timeout| match timeout {
        Setting::Seconds(seconds) => format!("{TIMEOUT}={seconds}"),
        Setting::Unknown => format!("{TIMEOUT}=$"),
    }));
    words.extend(engine.lease.map(|lease| format!("{LEASE}:{lease}")));
    let mut fields = Map::new();
    if !words.is_empty() {
        fields.insert("command".to_owned(), json!(words));
    }
    if let Some(hook) = engine.hook {
        let hook = match hook {
            Hook::Sleep(seconds) => json!({ "sleep": { "seconds": seconds } }),
            Hook::Other => json!({ "exec": {} }),
        };
        fields.insert("lifecycle".to_owned(), json!({ "preStop": hook }));
    }
    if engine.is_forced {
        let variable = json!([{ "name": FORCED, "value": "1" }]);
        fields.insert("env".to_owned(), variable);
    }
    fields
}

/// The words of a container's command.
fn words(container: &Value) -> impl Iterator<Item = &str> {
    let words = list(container, "/command")
        .iter()
        .chain(list(container, "/args"));
    words.filter_map(Value::as_str)
}

fn env<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let mut variables = list(container, "/env").iter();
    let variable = variables.find(|env| text(env, "/name") == Some(name))?;
    text(variable, "/value")
}

/// `vllm serve` and its older module. An image's name is no evidence: routers come in engines'
/// images.
fn is_vllm(line: &str) -> bool {
    line.contains("vllm serve") || line.contains("vllm.entrypoints.openai.api_server")
}

fn timeout(line: &str) -> Option<Setting> {
    // vLLM takes underscores for hyphens in the names of its arguments.
    let spelt = line.replace("--shutdown_timeout", TIMEOUT);
    let value = after(&spelt, TIMEOUT)?.trim_start_matches(['=', ' ', '"', '\'']);
    Some(match first_number(value) {
        Some(seconds) if value.starts_with(|c: char| c.is_ascii_digit()) => {
            Setting::Seconds(seconds)
        }
        _ => Setting::Unknown,
    })
}

fn hook(container: &Value) -> Option<Hook> {
    let hook = container.pointer("/lifecycle/preStop")?;
    if !hook.is_object() {
        return None;
    }
    let seconds = hook.pointer("/sleep/seconds").and_then(Value::as_u64);
    let seconds = seconds.or_else(|| {
        let command = list(hook, "/exec/command").iter();
        let line: Vec<&str> = command.filter_map(Value::as_str).collect();
        let line = line.join(" ");
        let (_, sleep) = line.split_once("sleep ")?;
        sleep.trim().trim_end_matches('s').parse().ok()
    });
    Some(seconds.map_or(Hook::Other, Hook::Sleep))
}

/// The text after the last mention of `name`: the last of several settings holds.
fn after<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.rsplit_once(name).map(|(_, rest)| rest)
}

/// The number that `text` begins with, after quotes and separators.
fn first_number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches(['"', '\'', '\\', ':', '=', ' ']);
    let digits = text.find(|c: char| !c.is_ascii_digit());
    text.get(..digits.unwrap_or(text.len()))?.parse().ok()
}
