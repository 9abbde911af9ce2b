//! The network that KV caches travel over from prefill to decode workers.
//!
//! Workers stand in domains, such as racks or zones: a new worker in the domain that has fewest of
//! its role. A transfer within a domain goes over the network adapter of its decode worker, one to
//! another domain over the one link that this pair of domains has in this direction; only that
//! narrowest part of its way is modelled. What goes over the same adapter or link at the same time
//! shares it evenly. Latency comes on top, after the last byte.
//!
//! Nothing here knows requests or events: the caller is told when to come back, and only the link
//! that changed is looked at. Without a network in the scenario every transfer has the profile's
//! bandwidth to itself.

mod shared;

use serde::{Deserialize, Serialize};

use self::shared::SharedLink;
use super::request::Slot;
use crate::time::{Nanos, from_seconds};

/// The network as a scenario describes it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Links {
    /// Bandwidth of the network adapter of one decode worker, gigabytes per second; 0.001 to
    /// 100,000.
    pub bandwidth_gigabytes_per_second: f64,
    /// From the last byte sent to decode beginning, seconds; 0 to 60.
    pub latency_seconds: f64,
    /// Domains that workers are spread over, 1 to 64.
    pub domains: u32,
    /// The link from each domain to each other.
    pub between_domains: BetweenDomains,
    /// Whether a decode worker in the domain of the prefill worker is taken as long as there is
    /// one.
    pub stay_in_domain: bool,
}

/// A link from one domain to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BetweenDomains {
    /// Its bandwidth, shared by all that goes that way, gigabytes per second; 0.001 to 100,000.
    pub bandwidth_gigabytes_per_second: f64,
    /// As within a domain, seconds; 0 to 60.
    pub latency_seconds: f64,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            bandwidth_gigabytes_per_second: 25.0,
            latency_seconds: 0.005,
            domains: 1,
            between_domains: BetweenDomains::default(),
            stay_in_domain: false,
        }
    }
}

impl Default for BetweenDomains {
    fn default() -> Self {
        Self {
            bandwidth_gigabytes_per_second: 25.0,
            latency_seconds: 0.005,
        }
    }
}

/// The bytes that went over the network since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvTraffic {
    /// Transfers begun.
    pub begun: u64,
    /// Bytes of these.
    pub begun_bytes: u64,
    /// Transfers whose last byte was sent.
    pub ended: u64,
    /// Bytes of these.
    pub ended_bytes: u64,
    /// Transfers cut short because a worker at either end crashed.
    pub cut: u64,
    /// Bytes of these, sent or not.
    pub cut_bytes: u64,
}

/// One KV cache on its way to a decode worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Transfer {
    pub(super) slot: Slot,
    /// Place and number of the decode worker.
    pub(super) place: u32,
    pub(super) number: u32,
    pub(super) bytes: u64,
}

/// When to come back to a link: a transfer ends then, unless something changes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wake {
    pub(super) link: u32,
    pub(super) at: Nanos,
}

/// The adapters of the decode workers and the links between domains.
#[derive(Debug)]
pub(super) struct Network {
    links: Links,
    /// First the links between domains, by pair; then the adapters, by place of the decode worker.
    shared: Vec<SharedLink>,
    pairs: u32,
    traffic: KvTraffic,
}

impl Network {
    pub(super) fn new(links: Links) -> Self {
        let pairs = links.domains * links.domains;
        let between = SharedLink::new(links.between_domains.bandwidth_gigabytes_per_second);
        Self {
            links,
            shared: vec![between; pairs as usize],
            pairs,
            traffic: KvTraffic::default(),
        }
    }

    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    pub(super) fn traffic(&self) -> KvTraffic {
        self.traffic
    }

    /// Begins a transfer; domains are those of the prefill and of the decode worker.
    pub(super) fn begin(
        &mut self,
        now: Nanos,
        from_domain: u32,
        to_domain: u32,
        transfer: Transfer,
    ) -> Option<Wake> {
        self.traffic.begun += 1;
        self.traffic.begun_bytes += transfer.bytes;
        let link = if from_domain == to_domain {
            self.adapter(transfer.place)
        } else {
            from_domain * self.links.domains + to_domain
        };
        let shared = self.shared.get_mut(link as usize)?;
        shared.begin(now, transfer);
        shared.wake().map(|at| Wake { link, at })
    }

    /// The adapter of a decode worker's place. Places are reused, and a worker that left has
    /// nothing on its way, so its adapter is as good as new.
    fn adapter(&mut self, place: u32) -> u32 {
        let link = self.pairs + place;
        while self.shared.len() <= link as usize {
            let bandwidth = self.links.bandwidth_gigabytes_per_second;
            self.shared.push(SharedLink::new(bandwidth));
        }
        link
    }

    /// Ends what is due on a link, each with its latency; nothing if the wake is out of date.
    pub(super) fn end(&mut self, wake: Wake, ended: &mut Vec<(Transfer, Nanos)>) -> Option<Wake> {
        let latency = from_seconds(if wake.link < self.pairs {
            self.links.between_domains.latency_seconds
        } else {
            self.links.latency_seconds
        });
        let shared = self.shared.get_mut(wake.link as usize)?;
        if !shared.is_due(wake.at) {
            return None;
        }
        while let Some(transfer) = shared.end(wake.at) {
            self.traffic.ended += 1;
            self.traffic.ended_bytes += transfer.bytes;
            ended.push((transfer, latency));
        }
        shared.wake().map(|at| Wake { at, ..wake })
    }

    /// Cuts the transfers that `goes` is true of, as one of their workers is gone.
    pub(super) fn cut(&mut self, now: Nanos, goes: impl Fn(&Transfer) -> bool) -> Vec<Wake> {
        let mut wakes = Vec::new();
        for (link, shared) in (0..).zip(&mut self.shared) {
            for transfer in shared.cut(now, &goes) {
                self.traffic.cut += 1;
                self.traffic.cut_bytes += transfer.bytes;
            }
            wakes.extend(shared.wake().map(|at| Wake { link, at }));
        }
        wakes
    }
}
