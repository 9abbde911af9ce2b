//! A service in closed loop with its decisions, as simple as scenarios allow: a fluid.
//!
//! Replicas start after a time, queues grow by the requests that arrive and are not served, and
//! every decision is audited and held against the laws. A scenario changes the load, the snapshot
//! or the world between ticks. The simulator shows effects that need requests one by one.

use std::time::Duration;

use crate::{
    audit::{Facts, audit_after, laws},
    memory::Memory,
    plan::{Decision, plan},
    policy::Policy,
    role::{PerRole, Role},
    role_state::{RoleState, StuckCause},
    signal::Reading,
    snapshot::Snapshot,
    testing::{self, Load},
    time::Timestamp,
};

/// Time between two decisions.
pub(crate) const TICK: Duration = Duration::from_secs(15);

/// When a pod serves that waits for something without a known end.
const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// One role's pods: when each serves, and when those that leave are gone.
#[derive(Clone, Debug, Default)]
struct Pods {
    ready_at: Vec<Timestamp>,
    gone_at: Vec<Timestamp>,
}

/// Decode as it runs at one moment.
struct Steps {
    itl_seconds: f64,
    tokens_per_second: f64,
}

/// A service and its decisions.
pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) load: Load,
    pub(crate) now: Timestamp,
    /// Time between two decisions.
    pub(crate) tick: Duration,
    pub(crate) memory: Memory,
    /// Replicas requested.
    pub(crate) current: PerRole<u32>,
    /// From request to serving.
    pub(crate) start_up: Duration,
    /// From request to being gone.
    pub(crate) drain: Duration,
    pub(crate) gpus_per_replica: u32,
    /// A role whose new replicas find no GPUs.
    pub(crate) never_ready: Option<Role>,
    /// Why new replicas of a role do not start, while they do not.
    pub(crate) blocked: PerRole<Option<StuckCause>>,
    /// How long new replicas are unschedulable, because a node has to come first.
    pub(crate) node_after: Duration,
    /// Replicas that started and do not serve, because they crash or a probe fails.
    pub(crate) broken: PerRole<u32>,
    /// The cause that the pods in `broken` show.
    pub(crate) broken_cause: Option<StuckCause>,
    pods: PerRole<Pods>,
    prefill_queue: f64,
    /// Requests in flight at decode.
    decoding: f64,
    /// Replicas after each decision, newest last.
    pub(crate) history: Vec<PerRole<u32>>,
}

impl World {
    /// `prefill`:`decode` replicas that serve `load`, a day after the epoch.
    pub(crate) fn new(prefill: u32, decode: u32, load: Load) -> Self {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let current = PerRole { prefill, decode };
        Self {
            policy: testing::policy(),
            load,
            now,
            tick: TICK,
            memory: Memory::default(),
            current,
            start_up: Duration::ZERO,
            drain: Duration::ZERO,
            gpus_per_replica: 4,
            never_ready: None,
            blocked: PerRole::default(),
            node_after: Duration::ZERO,
            broken: PerRole::default(),
            broken_cause: None,
            pods: current.map(|count| Pods {
                ready_at: vec![now; count as usize],
                gone_at: Vec::new(),
            }),
            prefill_queue: 0.0,
            decoding: 0.0,
            history: Vec::new(),
        }
    }

    /// Replicas that serve.
    pub(crate) fn ready(&self, role: Role) -> u32 {
        self.started(role).saturating_sub(self.broken[role])
    }

    fn started(&self, role: Role) -> u32 {
        self.pods_where(role, |at| at <= self.now)
    }

    fn pods_where(&self, role: Role, is: impl Fn(Timestamp) -> bool) -> u32 {
        let pods = self.pods[role].ready_at.iter();
        u32::try_from(pods.filter(|at| is(**at)).count()).unwrap()
    }

    /// Replicas that show why they do not serve, and the cause that most of them show.
    fn stuck(&self, role: Role) -> Option<(u32, StuckCause)> {
        let waits = self.pods_where(role, |at| at == NEVER);
        let nodeless =
            self.pods_where(role, |at| at != NEVER && at.since(self.now) > self.start_up);
        let broken = self.broken[role].min(self.started(role));
        let causes = [
            (waits, self.blocked[role]),
            (nodeless, Some(StuckCause::Unschedulable)),
            (broken, self.broken_cause),
        ];
        let shown = causes
            .into_iter()
            .filter_map(|(count, cause)| Some((count, cause?)));
        let total = shown.clone().map(|(count, _)| count).sum();
        let (_, cause) = shown.max_by_key(|(count, _)| *count)?;
        (total > 0).then_some((total, cause))
    }

    /// Replicas that exist and do not serve. Those that a quota refuses do not exist.
    fn starting(&self, role: Role) -> u32 {
        let refused = match self.blocked[role] {
            Some(StuckCause::QuotaExceeded | StuckCause::CreateFailed) => {
                self.pods_where(role, |at| at == NEVER)
            }
            _ => 0,
        };
        self.pods_where(role, |_| true) - self.ready(role) - refused
    }

    /// The observation now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let ready = PerRole::from_fn(|role| self.ready(role));
        let capacity = f64::from(ready.prefill) / self.load.prefill_seconds;
        let served = Load {
            rate_rps: self.load.rate_rps.min(capacity),
            ..self.load
        };
        let mut snapshot = testing::snapshot(ready.prefill, ready.decode, served);
        snapshot.policy = self.policy.clone();
        snapshot.roles = PerRole::from_fn(|role| {
            let pods = &self.pods[role];
            RoleState {
                current: self.current[role],
                ready: ready[role],
                starting: self.starting(role),
                stuck: self.stuck(role),
                terminating: u32::try_from(pods.gone_at.len()).unwrap(),
                gpus_per_replica: self.gpus_per_replica,
                ..RoleState::default()
            }
        });
        self.show_decode(&mut snapshot);
        let growth = (self.load.rate_rps - served.rate_rps).max(0.0);
        snapshot.signals.prefill_queue_growth_rps = Reading::of(growth);
        snapshot.signals.waiting_requests.prefill = Reading::of(self.prefill_queue);
        if self.prefill_queue > 0.0 {
            let drain = (capacity - self.load.rate_rps).max(0.0);
            snapshot.signals.prefill_completion_rate_rps = Reading::of(capacity);
            snapshot.signals.prefill_queue_drain_rps = Reading::of(drain);
            let running = f64::from(ready.prefill);
            snapshot.signals.requests_peak.prefill = Reading::of(self.prefill_queue + running);
            let wait = self.prefill_queue / capacity.max(1e-9);
            let ttft = testing::around(wait + self.load.prefill_seconds, served.rate_rps * 60.0);
            snapshot.signals.recent.prefill_ttft = ttft.clone();
            snapshot.signals.wide.prefill_ttft = ttft;
        }
        snapshot
    }

    /// The signals of decode: tokens as fast as its batches let it, whatever arrives.
    fn show_decode(&self, snapshot: &mut Snapshot) {
        let (signals, steps) = (&mut snapshot.signals, self.decode_steps());
        let requests = steps.tokens_per_second / self.load.output_tokens * 60.0;
        let itl = testing::around(steps.itl_seconds, steps.tokens_per_second * 60.0);
        let tpot = testing::around(steps.itl_seconds, requests);
        signals.output_token_rate_tps = Reading::of(steps.tokens_per_second);
        signals.running_requests.decode = Reading::of(self.decoding);
        for window in [&mut signals.recent, &mut signals.wide] {
            window.inter_token_latency = itl.clone();
            window.tpot = tpot.clone();
        }
        signals.tpot_attainment = tpot;
    }

    fn decode_steps(&self) -> Steps {
        let workers = f64::from(self.ready(Role::Decode).max(1));
        let itl_seconds = 0.008 + 0.000_2 * self.decoding / workers;
        Steps {
            itl_seconds,
            tokens_per_second: self.decoding / itl_seconds,
        }
    }

    /// One interval goes by, and the world decides on its observation after `see`.
    pub(crate) fn tick_seeing(&mut self, see: impl Fn(&mut Snapshot)) -> Decision {
        self.advance(self.tick);
        let mut snapshot = self.snapshot();
        see(&mut snapshot);
        let decision = plan(&snapshot, &self.memory, self.now);
        let facts = Facts::of(&self.memory, &snapshot, self.now);
        let mut findings = audit_after(&facts, &snapshot, &decision);
        findings.extend(laws(&snapshot, self.now, &decision));
        assert!(
            findings.is_empty(),
            "{findings:?}: {}",
            decision.report.paragraph()
        );
        self.memory = decision.memory.clone();
        self.apply(decision.plan.replicas);
        self.history.push(self.current);
        decision
    }

    /// Ticks for `span`; the last decision.
    pub(crate) fn run(&mut self, span: Duration) -> Decision {
        self.run_seeing(span, |_| {})
    }

    /// As [`Self::run`], with every snapshot changed by `see`.
    pub(crate) fn run_seeing(&mut self, span: Duration, see: impl Fn(&mut Snapshot)) -> Decision {
        let mut last = self.tick_seeing(&see);
        for _ in 1..span.as_secs() / self.tick.as_secs() {
            last = self.tick_seeing(&see);
        }
        last
    }

    /// The clock is set back by `step`; nothing else changes.
    pub(crate) fn step_clock_back(&mut self, step: Duration) {
        self.step_clock(-i64::try_from(step.as_millis()).unwrap());
    }

    /// The clock is set ahead by `step`; nothing else changes.
    pub(crate) fn step_clock_ahead(&mut self, step: Duration) {
        self.step_clock(i64::try_from(step.as_millis()).unwrap());
    }

    fn step_clock(&mut self, millis: i64) {
        let moved = |at: Timestamp| Timestamp::from_millis(at.as_millis().saturating_add(millis));
        self.now = moved(self.now);
        for role in Role::ALL {
            let Pods { ready_at, gone_at } = &mut self.pods[role];
            let pods = ready_at.iter_mut().chain(gone_at);
            pods.filter(|at| **at != NEVER)
                .for_each(|at| *at = moved(*at));
        }
    }

    /// Time goes by: queues grow or drain, pods leave.
    fn advance(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        let capacity = f64::from(self.ready(Role::Prefill)) / self.load.prefill_seconds;
        let seconds = span.as_secs_f64();
        let served = (self.load.rate_rps * seconds + self.prefill_queue).min(capacity * seconds);
        self.prefill_queue += self.load.rate_rps * seconds - served;
        // Small steps, because answers are shorter than an interval.
        let steps = u32::try_from(100 * span.as_millis() / TICK.as_millis()).unwrap();
        for _ in 0..steps {
            let ended = self.decode_steps().tokens_per_second / self.load.output_tokens;
            self.decoding += (served / seconds - ended) * seconds / f64::from(steps);
            self.decoding = self.decoding.max(0.0);
        }
        if self.decoding < 1e-3 {
            self.decoding = 0.0;
        }
        let (now, starts) = (self.now, self.now.plus(self.start_up));
        for role in Role::ALL {
            self.pods[role].gone_at.retain(|at| *at > now);
            if self.blocked[role].is_none() && self.never_ready != Some(role) {
                let waiting = self.pods[role].ready_at.iter_mut();
                waiting
                    .filter(|at| **at == NEVER)
                    .for_each(|at| *at = starts);
            }
        }
    }

    /// Somebody requests so many replicas.
    pub(crate) fn apply(&mut self, replicas: PerRole<u32>) {
        let (now, ready_at, gone_at) = (
            self.now,
            self.now.plus(self.node_after).plus(self.start_up),
            self.now.plus(self.drain),
        );
        for role in Role::ALL {
            let (want, pods) = (replicas[role] as usize, &mut self.pods[role]);
            let waits = self.never_ready == Some(role) || self.blocked[role].is_some();
            let ready_at = if waits { NEVER } else { ready_at };
            while pods.ready_at.len() < want {
                pods.ready_at.push(ready_at);
            }
            while pods.ready_at.len() > want {
                pods.ready_at.pop();
                if gone_at > now {
                    pods.gone_at.push(gone_at);
                }
            }
        }
        self.current = replicas;
    }
}
