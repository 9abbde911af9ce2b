//! Whether enough is known about a role to lower its replicas.
//!
//! Missing evidence never lowers replicas. Partial evidence (some ready workers not scraped) is a
//! lower bound of the load: it may raise replicas, and does not lower them either.

use crate::{
    role::Role,
    signal::{Gap, Reading, Signals},
    snapshot::Snapshot,
};

/// What is missing for a full decision about a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Signals that are not known, by name.
    pub missing: Vec<(&'static str, Gap)>,
    /// Ready workers with a fresh sample.
    pub scraped: u32,
    /// Ready workers.
    pub ready: u32,
}

impl Evidence {
    /// Whether replicas may be lowered on it.
    pub fn complete(&self) -> bool {
        self.missing.is_empty() && !self.partial() && self.ready > 0
    }

    /// Whether some ready workers were not scraped.
    pub fn partial(&self) -> bool {
        self.scraped < self.ready
    }

    /// A sentence without its full stop about what is missing.
    pub fn message(&self) -> String {
        if let Some((name, gap)) = self.missing.first() {
            let others = match self.missing.len() {
                1 => String::new(),
                more => format!(" (and {} other signals)", more - 1),
            };
            return format!("`{name}` is not known because {}{others}", gap.as_text());
        }
        if self.ready == 0 {
            return "no worker is ready".to_owned();
        }
        format!(
            "{} of {} ready workers are scraped",
            self.scraped, self.ready
        )
    }
}

/// What is missing for a full decision about `role`.
pub fn evidence(snapshot: &Snapshot, role: Role) -> Evidence {
    let signals = &snapshot.signals;
    let needed = match role {
        Role::Prefill => prefill_signals(signals),
        Role::Decode => decode_signals(signals),
    };
    Evidence {
        missing: needed
            .into_iter()
            .filter_map(|(name, reading)| reading.gap().map(|gap| (name, gap)))
            .collect(),
        scraped: signals.coverage.get(role).scraped,
        ready: snapshot.roles.get(role).ready,
    }
}

fn prefill_signals(signals: &Signals) -> Vec<(&'static str, Reading)> {
    let arrivals = match signals.arrival_rate_rps_override {
        Reading::Unknown(Gap::NotAsked) => {
            ("prefillCompletionRate", signals.prefill_completion_rate_rps)
        }
        stated => ("arrivalRate", stated),
    };
    vec![
        arrivals,
        ("prefillWaitingRequests", signals.waiting_requests.prefill),
    ]
}

fn decode_signals(signals: &Signals) -> Vec<(&'static str, Reading)> {
    vec![
        ("outputTokenRate", signals.output_token_rate_tps),
        ("decodeRunningRequests", signals.running_requests.decode),
        ("decodeWaitingRequests", signals.waiting_requests.decode),
        ("decodeKvUsage", signals.decode_kv_usage),
    ]
}
