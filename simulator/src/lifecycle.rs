//! Replicas between being asked for and being gone: what Kubernetes and the cloud do with pods.
//!
//! The [`Fleet`] keeps as many pods as are requested, as a `ReplicaSet` does, and adds their
//! engines to the service once they can run. A pod waits for GPUs, pulls its image, loads, warms up
//! and is seen ready at a probe; it drains when it is removed and is killed after its grace period;
//! its container may crash, its node may fail or be taken away. The fleet says how this looks to a
//! controller ([`Fleet::replicas`], [`Fleet::stuck`]) and to Prometheus ([`Fleet::ghosts`]), which
//! is not how it is. It has no clock and decides nothing about numbers.
//!
//! Without any setting a pod has room at once, serves exactly after its role's lead time, and
//! drains for as long as it takes.

mod cluster;
mod faults;
mod pod;
mod removal;
mod shown;
mod start;

use std::collections::BTreeMap;

use pd_core::role_state::StuckCause;
use pd_core::{PerRole, Role};

use self::cluster::Cluster;
use self::pod::{Event, Leaving, Phase, Plans, Pod};
use self::start::{Draws, parts_of};
pub use self::start::{Parts, PartsByRole, Spread};
use crate::engine::{Removal, Service, WorkerState};
use crate::fault::Conditions;
use crate::observe::engine_role;
use crate::time::{Nanos, SECOND};

/// How pods live.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifecycle {
    /// Parts of a start; without, the lead is one constant.
    pub start: PartsByRole,
    /// Time between two readiness probes; 0 is seen at once.
    pub readiness_period: Nanos,
    /// From a pod's deletion to the last router knowing of it.
    pub endpoint_delay: Nanos,
    /// From a pod's deletion to its end, whatever it still does; without, it finishes.
    pub grace: Option<Nanos>,
    /// GPUs of the cluster; without, there is always room.
    pub gpus: Option<u32>,
    /// GPUs of a node, at least 1.
    pub gpus_per_node: u32,
    /// From a node's failure to its pods being shown as not ready.
    pub node_grace: Nanos,
    /// From then to their being replaced.
    pub eviction: Nanos,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            start: PerRole::default(),
            readiness_period: 0,
            endpoint_delay: 0,
            grace: None,
            gpus: None,
            gpus_per_node: 8,
            // `--node-monitor-grace-period`, and `tolerationSeconds` of the default toleration.
            node_grace: 40 * SECOND,
            eviction: 300 * SECOND,
        }
    }
}

/// Why requests had to start over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// Their worker was removed to have fewer of them, and its grace period was too short.
    ScaleDown,
    /// Their worker crashed, or its node failed or was taken away.
    Fault,
}

/// Requests that had to start over at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub cause: LossCause,
    /// How many.
    pub requests: u64,
}

/// The pods of a service. Times are those of the service.
#[derive(Clone, Debug)]
pub struct Fleet {
    lifecycle: Lifecycle,
    gpus_per_replica: PerRole<u32>,
    lead: PerRole<Nanos>,
    pods: Vec<Pod>,
    desired: PerRole<u32>,
    /// Pods ever made, which gives each a name of its own.
    made: PerRole<u32>,
    numbers: u64,
    cluster: Cluster,
    plans: Plans,
    draws: Draws,
    conditions: Conditions,
    losses: Vec<Loss>,
}

impl Fleet {
    /// A fleet without pods. Starts take `lead` on average.
    pub fn new(
        lifecycle: Lifecycle,
        gpus_per_replica: PerRole<u32>,
        lead: PerRole<Nanos>,
        seed: u64,
    ) -> Self {
        Self {
            cluster: Cluster::new(lifecycle.gpus, lifecycle.gpus_per_node),
            lifecycle,
            gpus_per_replica,
            lead,
            pods: Vec::new(),
            desired: PerRole::default(),
            made: PerRole::default(),
            numbers: 0,
            plans: Plans::default(),
            draws: Draws::new(seed),
            conditions: Conditions::default(),
            losses: Vec::new(),
        }
    }

    /// Makes the first pods, whose engines serve at once where there is room.
    pub fn populate(&mut self, replicas: PerRole<u32>, service: &mut Service) {
        self.desired = replicas;
        for role in Role::ALL {
            for _ in 0..replicas[role] {
                let mut pod = self.make(role);
                let gpus = self.gpus_per_replica[role];
                if let Some(place) = self.cluster.place(gpus, None) {
                    pod.place = place;
                    add_engine(&mut pod, service.now(), service);
                }
                self.pods.push(pod);
            }
        }
    }

    /// Replicas asked for.
    pub fn desired(&self) -> PerRole<u32> {
        self.desired
    }

    /// Asks for `replicas`. Which ones leave is chosen by their work as of the last
    /// [`Service::observe`].
    pub fn scale(&mut self, replicas: PerRole<u32>, service: &mut Service) {
        for role in Role::ALL {
            let (have, want) = (self.desired[role], replicas[role]);
            self.desired[role] = want;
            self.fill(role, service);
            for number in self.first_to_leave(role, have.saturating_sub(want), service) {
                self.remove(number, service);
            }
        }
        self.reconcile(service);
    }

    /// When the next event is due.
    pub fn next_event_at(&self) -> Option<Nanos> {
        self.plans.next_at()
    }

    /// Processes every event that is due by the service's time.
    pub fn process_events(&mut self, service: &mut Service) {
        let now = service.now();
        while let Some((number, epoch, event)) = self.plans.take(now) {
            if let Event::NodeBack(node) = event {
                self.node_back(node, service);
                continue;
            }
            let known = |pod: &Pod| pod.number == number && pod.epoch == epoch;
            if let Some(index) = self.pods.iter().position(known) {
                self.process_event(index, event, service);
            }
        }
        self.reconcile(service);
    }

    /// Forgets pods that have left, and schedules those that wait for GPUs.
    pub fn reconcile(&mut self, service: &mut Service) {
        if self.pods.iter().any(|pod| pod.leaving.is_some()) {
            let there: BTreeMap<&str, WorkerState> = service
                .workers()
                .map(|worker| (worker.name, worker.state))
                .collect();
            let cluster = &mut self.cluster;
            self.pods.retain(|pod| {
                let engine = pod.worker.as_deref();
                let stays = pod.leaving.is_none()
                    || engine.is_some_and(|engine| there.contains_key(engine));
                if !stays {
                    cluster.free(&pod.place);
                }
                stays
            });
        }
        for index in 0..self.pods.len() {
            if self.pods[index].phase == Phase::Pending {
                self.schedule(index, service);
            }
        }
    }

    /// The faults from now on.
    pub fn set_conditions(&mut self, conditions: Conditions, service: &mut Service) {
        self.conditions = conditions;
        self.reconcile(service);
    }

    /// The losses since the last call.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.losses)
    }

    fn make(&mut self, role: Role) -> Pod {
        let made = &mut self.made[role];
        *made += 1;
        self.numbers += 1;
        Pod::new(self.numbers, role, format!("{role}-{made}"))
    }

    /// Makes pods until there are as many as are asked for.
    fn fill(&mut self, role: Role, service: &mut Service) {
        let stays = |pod: &&Pod| pod.role == role && pod.leaving.is_none();
        let have = self.pods.iter().filter(stays).count();
        for _ in have..self.desired[role] as usize {
            let pod = self.make(role);
            self.pods.push(pod);
            self.schedule(self.pods.len() - 1, service);
        }
    }

    fn schedule(&mut self, index: usize, service: &mut Service) {
        let pod = &mut self.pods[index];
        let gpus = self.gpus_per_replica[pod.role];
        let Some(place) = self.cluster.place(gpus, self.conditions.gpus_max) else {
            return;
        };
        pod.place = place;
        self.pull(index, service);
    }

    fn pull(&mut self, index: usize, service: &mut Service) {
        let pod = &mut self.pods[index];
        if self.conditions.image_pull_fails[pod.role] {
            pod.phase = Phase::BackOff(StuckCause::ImagePull);
            let at = service.now() + pod.pull_back_off();
            self.plans.plan(at, pod, Event::Retry);
            return;
        }
        pod.pulled();
        self.start(index, true, service);
    }

    /// Starts the container, at once where the image is there.
    fn start(&mut self, index: usize, pulls: bool, service: &mut Service) {
        let pod = &mut self.pods[index];
        let lead = self.lead[pod.role];
        let start = self
            .draws
            .start(parts_of(&self.lifecycle.start, pod.role), lead);
        let pulled = if pulls { start.pulled } else { 0 };
        let begins = service.now() + pulled;
        if self
            .draws
            .fails(self.conditions.start_failure_share[pod.role])
        {
            pod.phase = Phase::Failing;
            self.plans.plan(begins + start.loaded, pod, Event::Fails);
            return;
        }
        let mut works = start.loaded + start.warmed;
        if self.lifecycle.readiness_period > 0 {
            works = works.next_multiple_of(self.lifecycle.readiness_period);
        }
        add_engine(pod, begins + works, service);
    }

    fn process_event(&mut self, index: usize, event: Event, service: &mut Service) {
        let now = service.now();
        match event {
            Event::Fails => self.ended(index, service),
            Event::Retry => {
                let pod = &self.pods[index];
                if pod.phase == Phase::BackOff(StuckCause::ImagePull) {
                    self.pull(index, service);
                } else {
                    self.start(index, false, service);
                }
            }
            Event::Drain => {
                if let Some(engine) = &self.pods[index].worker {
                    // It may have left by itself.
                    let _ = service.remove_worker(now, engine, Removal::Drain);
                }
            }
            Event::Kill => {
                let cause = match self.pods[index].leaving {
                    Some(Leaving::ScaleDown) => LossCause::ScaleDown,
                    _ => LossCause::Fault,
                };
                self.kill_engine(index, cause, service);
            }
            Event::Noticed => {
                self.pods[index].phase = Phase::Lost { shown_ready: false };
            }
            Event::Evicted => {
                let pod = self.pods.remove(index);
                self.cluster.free(&pod.place);
                self.fill(pod.role, service);
            }
            Event::NodeBack(_) => {}
        }
    }

    /// The container of a pod has ended, and the kubelet starts it again.
    fn ended(&mut self, index: usize, service: &mut Service) {
        let now = service.now();
        let pod = &mut self.pods[index];
        let wait = pod.back_off(now);
        pod.epoch += 1;
        if wait == 0 {
            self.start(index, false, service);
        } else {
            pod.phase = Phase::BackOff(StuckCause::CrashLoop);
            self.plans.plan(now + wait, pod, Event::Retry);
        }
    }

    /// Ends a pod's engine at once; what it worked on starts over elsewhere.
    fn kill_engine(&mut self, index: usize, cause: LossCause, service: &mut Service) {
        let pod = &self.pods[index];
        let Some(engine) = &pod.worker else { return };
        let before = service.restarts();
        // The pod's engine is known to the service as long as the pod has it.
        let _ = service.remove_worker(service.now(), engine, Removal::Crash);
        let requests = service.restarts() - before;
        if requests > 0 {
            self.losses.push(Loss { cause, requests });
        }
    }
}

/// Adds a pod's next engine, which serves from `ready_at` on.
fn add_engine(pod: &mut Pod, ready_at: Nanos, service: &mut Service) {
    pod.phase = Phase::Starting { ready_at };
    let name = pod.name_engine();
    let now = service.now();
    // Pods and their engines are numbered, so the name is free.
    let _ = service.add_worker_ready_at(now, engine_role(pod.role), &name, ready_at);
}

#[cfg(test)]
mod tests;
