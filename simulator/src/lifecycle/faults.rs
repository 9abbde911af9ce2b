//! Faults that strike pods: crashes, nodes that fail, nodes that are taken away.
//!
//! Victims are drawn among those that a fault can strike at all: serving pods for a crash, nodes
//! that hold pods of the role for the others. Whoever shares a node with a victim goes with it.

use pd_core::Role;

use super::pod::{Event, Leaving, Phase, Pod};
use super::start::struck;
use super::{Fleet, LossCause};
use crate::engine::Service;
use crate::fault::{Effect, Fault};
use crate::time::Nanos;

impl Fleet {
    /// Lets `fault` strike now. What it takes away comes back at `ends_at`, time of the service.
    pub fn strike(&mut self, fault: &Fault, ends_at: Option<Nanos>, service: &mut Service) {
        match fault.effect {
            Effect::Crash => self.crash(fault, service),
            Effect::NodeFailure => {
                for node in self.victims(fault) {
                    self.take_node(node, ends_at);
                    self.fail_pods_on(node, service);
                }
            }
            Effect::SpotReclaim { notice } => {
                for node in self.victims(fault) {
                    self.take_node(node, ends_at);
                    self.reclaim_pods_on(node, notice, service);
                }
            }
            Effect::StartFailure(_)
            | Effect::ImagePullFailure
            | Effect::GpuScarcity(_)
            | Effect::Slowdown(_)
            | Effect::ScrapeLoss(_)
            | Effect::PrometheusOutage => {}
        }
        self.reconcile(service);
    }

    fn crash(&mut self, fault: &Fault, service: &mut Service) {
        let now = service.now();
        let serving: Vec<u64> = self
            .pods
            .iter()
            .filter(|pod| pod.serves(now) && fault.strikes(pod.role))
            .map(|pod| pod.number)
            .collect();
        let picked = self
            .draws
            .pick(struck(fault.share, serving.len()), serving.len());
        for pick in picked {
            if let Some(index) = self.index_of(serving[pick]) {
                self.kill_engine(index, LossCause::Fault, service);
                self.ended(index, service);
            }
        }
    }

    /// Nodes that hold a pod that the fault strikes, drawn.
    fn victims(&mut self, fault: &Fault) -> Vec<usize> {
        let struck_pods = self.pods.iter().filter(|pod| {
            let there = !matches!(pod.phase, Phase::Lost { .. });
            there && pod.leaving.is_none() && fault.strikes(pod.role)
        });
        let mut nodes: Vec<usize> = struck_pods
            .flat_map(|pod| pod.place.iter().map(|(node, _)| *node))
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let picked = self
            .draws
            .pick(struck(fault.share, nodes.len()), nodes.len());
        picked.into_iter().map(|pick| nodes[pick]).collect()
    }

    fn take_node(&mut self, node: usize, ends_at: Option<Nanos>) {
        self.cluster.set_down(node, true);
        if let Some(at) = ends_at {
            self.plans.plan_node_back(at, node);
        }
    }

    fn pods_on(&self, node: usize) -> Vec<u64> {
        let on_it = |pod: &&Pod| pod.place.iter().any(|(other, _)| *other == node);
        self.pods
            .iter()
            .filter(on_it)
            .map(|pod| pod.number)
            .collect()
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        self.pods.iter().position(|pod| pod.number == number)
    }

    /// Everything on the node ends. The API server notices later, and replaces the pods later
    /// still.
    fn fail_pods_on(&mut self, node: usize, service: &mut Service) {
        let now = service.now();
        for number in self.pods_on(node) {
            let Some(index) = self.index_of(number) else {
                continue;
            };
            self.kill_engine(index, LossCause::Fault, service);
            let pod = &mut self.pods[index];
            if pod.leaving.is_some() || matches!(pod.phase, Phase::Lost { .. }) {
                continue;
            }
            let shown_ready = pod.serves(now);
            pod.epoch += 1;
            pod.phase = Phase::Lost { shown_ready };
            let noticed = now + self.lifecycle.node_grace;
            self.plans.plan(noticed, pod, Event::Noticed);
            self.plans
                .plan(noticed + self.lifecycle.eviction, pod, Event::Evicted);
        }
    }

    /// Everything on the node is deleted, has the notice to finish, and is replaced at once.
    fn reclaim_pods_on(&mut self, node: usize, notice: Nanos, service: &mut Service) {
        for number in self.pods_on(node) {
            let Some(index) = self.index_of(number) else {
                continue;
            };
            if self.pods[index].leaving.is_none() {
                let grace = self
                    .lifecycle
                    .grace
                    .map_or(notice, |grace| grace.min(notice));
                self.delete(index, Leaving::Reclaimed, Some(grace), service);
            } else {
                // It was on its way out, and has no longer than the node.
                let pod = &self.pods[index];
                self.plans.plan(service.now() + notice, pod, Event::Kill);
            }
        }
        for role in Role::ALL {
            self.fill(role, service);
        }
    }

    /// A node is there again; pods that were not replaced yet start on it.
    pub(super) fn node_back(&mut self, node: usize, service: &mut Service) {
        self.cluster.set_down(node, false);
        for number in self.pods_on(node) {
            let lost = self.index_of(number).filter(|index| {
                let pod = &self.pods[*index];
                pod.leaving.is_none() && matches!(pod.phase, Phase::Lost { .. })
            });
            if let Some(index) = lost {
                self.pods[index].epoch += 1;
                self.start(index, false, service);
            }
        }
    }
}
