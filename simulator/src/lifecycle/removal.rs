//! Which pods leave when fewer are wanted, and how: drained, and killed after their grace period.

use std::collections::BTreeMap;

use pd_core::Role;

use super::Fleet;
use super::pod::{Event, Leaving, Phase, Pod};
use crate::engine::{Removal, Service, WorkerState};
use crate::time::Nanos;

impl Fleet {
    /// Deletes a pod.
    pub(super) fn remove(&mut self, number: u64, service: &mut Service) {
        let Some(index) = self.pods.iter().position(|pod| pod.number == number) else {
            return;
        };
        let grace = self.lifecycle.grace;
        self.delete(index, Leaving::ScaleDown, grace, service);
    }

    /// Deletes a pod, which has `grace` to finish.
    pub(super) fn delete(
        &mut self,
        index: usize,
        leaving: Leaving,
        grace: Option<Nanos>,
        service: &mut Service,
    ) {
        let now = service.now();
        let serves = self.pods[index].serves(now);
        let pod = &mut self.pods[index];
        pod.leaving = Some(leaving);
        pod.epoch += 1;
        let engine = pod.worker.clone().filter(|_| {
            // An engine that was lost with its node is not there to drain.
            matches!(pod.phase, Phase::Starting { .. })
        });
        let Some(engine) = engine else {
            let pod = self.pods.remove(index);
            self.cluster.free(&pod.place);
            return;
        };
        if serves && self.lifecycle.endpoint_delay > 0 {
            let at = now + self.lifecycle.endpoint_delay;
            self.plans.plan(at, pod, Event::Drain);
        } else {
            // The name is the service's own.
            let _ = service.remove_worker(now, &engine, Removal::Drain);
        }
        if let Some(grace) = grace {
            self.plans.plan(now + grace, pod, Event::Kill);
        }
    }

    /// The pods to delete: those without an engine, the youngest first; then those that do not
    /// serve yet, the latest first; then those with least work.
    pub(super) fn first_to_leave(&self, role: Role, count: u32, service: &Service) -> Vec<u64> {
        if count == 0 {
            return Vec::new();
        }
        let stays = |pod: &&Pod| pod.role == role && pod.leaving.is_none();
        let mut idle: Vec<&Pod> = self
            .pods
            .iter()
            .filter(stays)
            .filter(|pod| !matches!(pod.phase, Phase::Starting { .. }))
            .collect();
        idle.sort_by_key(|pod| (pod.phase != Phase::Pending, std::cmp::Reverse(pod.number)));
        let by_engine: BTreeMap<&str, u64> = self
            .pods
            .iter()
            .filter(stays)
            .filter_map(|pod| Some((pod.worker.as_deref()?, pod.number)))
            .collect();
        let mut workers: Vec<_> = service
            .workers()
            .filter_map(|worker| Some((*by_engine.get(worker.name)?, worker)))
            .collect();
        workers.sort_by_key(|(_, worker)| {
            let serves = worker.state == WorkerState::Ready;
            let work = worker.metrics.requests_running + worker.metrics.requests_waiting();
            (
                serves,
                std::cmp::Reverse(worker.ready_at * u64::from(!serves)),
                work,
            )
        });
        let idle = idle.into_iter().map(|pod| pod.number);
        let busy = workers.into_iter().map(|(number, _)| number);
        idle.chain(busy).take(count as usize).collect()
    }
}
