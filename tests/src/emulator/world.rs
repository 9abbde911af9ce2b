//! All emulated services, one per namespace, and the pods that are their workers.
//!
//! Owns the mapping from pods to workers and from the stated load to requests. Time is an argument;
//! every entry point first lets the service live up to it. A pod that comes back under an old name
//! is a new worker with counts from zero, as a restarted engine would be, even while the old one
//! still drains.

mod load;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pd_sim::{
    engine::{Arrival, Profile, Removal, RequestOutcome, Role, Service, WorkerState, WorkerView},
    exposition::render,
    time::{MINUTE, Nanos, from_seconds},
    traffic::{Arrivals, Curve, Load},
};
use serde::Serialize;

use super::{
    options::EmulatorOptions,
    pods::{PodKey, ServingPod},
};

pub(super) use self::load::Stated;
pub use self::load::{LoadChange, LoadError};

/// Outcomes are kept this long for recent percentiles.
pub(super) const OUTCOMES_KEPT: Nanos = 10 * MINUTE;

/// One emulated service.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) service: Service,
    pub(super) stated: Stated,
    seed: u64,
    arrivals: Option<Arrivals>,
    next_arrival: Option<Arrival>,
    pub(super) pods: BTreeMap<String, Worker>,
    pub(super) recent: VecDeque<RequestOutcome>,
    pub(super) ended: u64,
    pub(super) arrived: u64,
}

/// A pod that serves, and the name of its worker in the model.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) pod: ServingPod,
    pub(super) name: String,
}

/// All emulated services.
#[derive(Debug)]
pub(super) struct World {
    options: EmulatorOptions,
    stated: Stated,
    pub(super) namespaces: BTreeMap<String, Namespace>,
    pub(super) synced: bool,
    workers_named: u64,
}

/// A target of Prometheus' `http_sd`.
#[derive(Debug, Serialize)]
pub(super) struct Target {
    targets: [String; 1],
    labels: BTreeMap<&'static str, String>,
}

impl World {
    pub(super) fn new(options: EmulatorOptions) -> Self {
        let load = Load {
            requests_per_second: 0.0,
            input_tokens_mean: 600.0,
            output_tokens_mean: 150.0,
            input_tokens_cv: 1.0,
            output_tokens_cv: 1.0,
        };
        Self {
            options,
            stated: Stated {
                load,
                curve: None,
                profile: Profile::default(),
                dialect: None,
            },
            namespaces: BTreeMap::new(),
            synced: false,
            workers_named: 0,
        }
    }

    /// Lets all services live up to `now`.
    pub(super) fn advance(&mut self, now: Nanos) {
        for namespace in self.namespaces.values_mut() {
            namespace.advance(now);
        }
    }

    /// Notes how a pod is: serving, or not (any more).
    pub(super) fn pod(&mut self, now: Nanos, key: PodKey, serving: Option<ServingPod>) {
        if serving.is_none() && !self.namespaces.contains_key(&key.namespace) {
            return;
        }
        let startup = from_seconds(self.options.startup_seconds);
        self.workers_named += 1;
        let name = format!("{}#{}", key.name, self.workers_named);
        let namespace = self.namespace(&key.namespace, now);
        namespace.advance(now);
        let known = namespace.pods.get_mut(&key.name);
        if let (Some(known), Some(serving)) = (known, &serving)
            && (&known.pod.uid, known.pod.role) == (&serving.uid, serving.role)
        {
            known.pod = serving.clone();
            return;
        }
        if let Some(old) = namespace.pods.remove(&key.name) {
            tracing::info!(namespace = key.namespace, pod = key.name, "worker leaves");
            // It may have been told to leave and be gone.
            let _ = namespace
                .service
                .remove_worker(now, &old.name, Removal::Drain);
        }
        if let Some(pod) = serving {
            let added = namespace
                .service
                .add_worker_ready_at(now, pod.role, &name, now + startup);
            if let Err(error) = added {
                tracing::error!(%error, "a worker could not be added");
                return;
            }
            tracing::info!(namespace = key.namespace, pod = key.name, role = ?pod.role, "worker joins");
            namespace.pods.insert(key.name, Worker { pod, name });
        }
    }

    /// Lets every pod go that a complete list did not name.
    pub(super) fn keep_only(&mut self, now: Nanos, listed: &BTreeSet<PodKey>) {
        let known = self.namespaces.iter().flat_map(|(namespace, service)| {
            service.pods.keys().map(|name| PodKey {
                namespace: namespace.clone(),
                name: name.clone(),
            })
        });
        let gone: Vec<_> = known.filter(|key| !listed.contains(key)).collect();
        for key in gone {
            self.pod(now, key, None);
        }
        self.synced = true;
    }

    pub(super) fn set_load(&mut self, now: Nanos, change: &LoadChange) -> Result<(), LoadError> {
        if let Some(name) = change
            .namespace
            .as_ref()
            .or(self.options.namespace.as_ref())
        {
            if let Some(played) = self
                .options
                .namespace
                .as_ref()
                .filter(|played| *played != name)
            {
                return Err(LoadError::Namespace {
                    asked: name.clone(),
                    played: played.clone(),
                });
            }
            let name = name.clone();
            let namespace = self.namespace(&name, now);
            let stated = namespace.stated.changed(change)?;
            namespace.restate(now, stated);
            return Ok(());
        }
        let stated = self.stated.changed(change)?;
        let changed = self
            .namespaces
            .values()
            .map(|namespace| namespace.stated.changed(change));
        let changed: Vec<_> = changed.collect::<Result<_, _>>()?;
        self.stated = stated;
        for (namespace, stated) in self.namespaces.values_mut().zip(changed) {
            namespace.restate(now, stated);
        }
        Ok(())
    }

    /// One target per pod whose worker takes requests.
    pub(super) fn targets(&mut self, now: Nanos, address: &str) -> Vec<Target> {
        self.advance(now);
        let mut targets = Vec::new();
        for (name, namespace) in &self.namespaces {
            let serving = namespace.serving_workers();
            for (pod, worker) in &namespace.pods {
                if !serving.contains(worker.name.as_str()) {
                    continue;
                }
                let role = match worker.pod.role {
                    Role::Prefill => "prefill",
                    Role::Decode => "decode",
                };
                let labels = BTreeMap::from([
                    ("__metrics_path__", format!("/pods/{name}/{pod}/metrics")),
                    ("instance", worker.pod.instance.clone()),
                    ("namespace", name.clone()),
                    ("pod", pod.clone()),
                    ("role", role.to_owned()),
                    // A target label `model_name` would push the series' own aside, as no real
                    // set-up does.
                    ("__meta_model_name", worker.pod.model_name.clone()),
                ]);
                targets.push(Target {
                    targets: [address.to_owned()],
                    labels,
                });
            }
        }
        targets
    }

    /// The metrics text of one pod, or `None` if no worker of that name takes requests.
    pub(super) fn metrics(&mut self, now: Nanos, namespace: &str, pod: &str) -> Option<String> {
        let namespace = self.namespaces.get_mut(namespace)?;
        namespace.advance(now);
        let worker = namespace.pods.get(pod)?;
        if !namespace.serving_workers().contains(worker.name.as_str()) {
            return None;
        }
        namespace.service.observe(now);
        let view = namespace
            .service
            .workers()
            .find(|view| view.name == worker.name)?;
        let dialect = namespace.stated.dialect.unwrap_or(worker.pod.dialect);
        let profile = namespace.service.profile();
        Some(render(
            view.metrics,
            profile,
            &worker.pod.model_name,
            dialect,
        ))
    }

    fn namespace(&mut self, name: &str, now: Nanos) -> &mut Namespace {
        let (stated, seed) = (&self.stated, self.options.seed);
        self.namespaces
            .entry(name.to_owned())
            .or_insert_with(|| Namespace::new(now, stated.clone(), seed))
    }
}

impl Namespace {
    fn new(now: Nanos, stated: Stated, seed: u64) -> Self {
        let mut service = Service::new(stated.profile.clone());
        service.advance(now);
        let mut namespace = Self {
            service,
            stated: stated.clone(),
            seed,
            arrivals: None,
            next_arrival: None,
            pods: BTreeMap::new(),
            recent: VecDeque::new(),
            ended: 0,
            arrived: 0,
        };
        namespace.state_arrivals(now, stated.curve);
        namespace
    }

    fn state_arrivals(&mut self, now: Nanos, curve: Option<Curve>) {
        let Some(curve) = curve else { return };
        match &mut self.arrivals {
            Some(arrivals) => arrivals.change_curve(now, curve),
            None => self.arrivals = Some(Arrivals::new(curve, self.seed, now, Nanos::MAX)),
        }
        self.next_arrival = self.arrivals.as_mut().and_then(Iterator::next);
    }

    fn advance(&mut self, now: Nanos) {
        while let Some(arrival) = self.next_arrival.take_if(|arrival| arrival.at <= now) {
            self.service.offer(arrival);
            self.arrived += 1;
            self.next_arrival = self.arrivals.as_mut().and_then(Iterator::next);
        }
        self.service.advance(now);
        for outcome in self.service.drain_outcomes() {
            self.ended += 1;
            self.recent.push_back(outcome);
        }
        let old = now.saturating_sub(OUTCOMES_KEPT);
        while self
            .recent
            .front()
            .is_some_and(|outcome| outcome.finished_at < old)
        {
            self.recent.pop_front();
        }
    }

    fn restate(&mut self, now: Nanos, stated: Stated) {
        self.advance(now);
        self.service.set_profile(stated.profile.clone());
        if stated.load != self.stated.load {
            self.state_arrivals(now, stated.curve.clone());
        }
        self.stated = stated;
    }

    fn serving_workers(&self) -> BTreeSet<&str> {
        let ready = |view: &WorkerView<'_>| view.state == WorkerState::Ready;
        self.service
            .workers()
            .filter(ready)
            .map(|view| view.name)
            .collect()
    }
}

#[cfg(test)]
mod tests;
