//! Gateways of many objects, read in the rounds by queries of their own.
//!
//! A pass says which gateway stands before its object, as the answers about many have shown, and
//! the rounds read it from then on. A gateway's fault is its objects' alone, and is found as that
//! of an object is. Refuses models whose names cannot be compared: theirs are asked about alone.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering,
    time::Duration,
};

use pd_signals::{Sample, gateway::Gateway, queries::gateway::GatewayScope};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Key, Lack, Poller, State, Taken,
    here::{as_of_one, late},
    plan::{self, Candidate, chunks},
    read::{Faults, Query, Read, Reader},
};
use crate::{
    grouping::{
        Grouped,
        gateway::{comparable, of_gateway},
        split::Directory,
    },
    lock::locked,
    prometheus::QueryError,
};

/// Most queries about gateways in a round, and most kinds of gateways that are read.
pub const QUERIES_MAX: usize = 5;

/// As errors name a query.
const NAME: &str = "the gateways of many objects";

/// Everything in which gateways that are read together are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct GatewayKey {
    gateway: &'static str,
    window: Duration,
    attainment_window: Duration,
}

/// The gateway of an object, as a pass wants it read.
#[derive(Clone, Debug)]
pub struct Sought {
    key: GatewayKey,
    gateway: &'static Gateway,
    scope: GatewayScope,
    model: String,
}

impl Sought {
    /// `gateway` with the model and the windows of `scope`, where many can be read so.
    pub fn of(scope: &GatewayScope, gateway: &'static Gateway) -> Option<Self> {
        Some(Self {
            key: GatewayKey {
                gateway: gateway.name,
                window: scope.window,
                attainment_window: scope.attainment_window,
            },
            gateway,
            model: comparable(&scope.model)?,
            scope: scope.clone(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.key == other.key && self.model == other.model
    }
}

/// The gateway of a member.
#[derive(Debug)]
pub(super) struct AtGateway {
    sought: Sought,
    wanted_at: Instant,
    missing_since: Option<Instant>,
    read: Option<Read>,
    level: u8,
    /// Whether there is no room for its kind.
    is_left_out: bool,
}

impl AtGateway {
    const fn new(sought: Sought, now: Instant) -> Self {
        Self {
            sought,
            wanted_at: now,
            missing_since: None,
            read: None,
            level: 0,
            is_left_out: false,
        }
    }
}

/// The counts of a gateway, and the server's first reason why they may not be whole.
#[derive(Debug)]
pub struct Counted {
    /// The counts.
    pub rows: Result<Vec<Sample>, QueryError>,
    /// The reason.
    pub warning: Option<String>,
}

/// Gateways to be read at once.
#[derive(Debug)]
pub(super) struct Job {
    grouped: Grouped,
    pub(super) members: Vec<Key>,
    /// The model of each, in the case in which models are compared.
    models: Vec<String>,
    is_named: bool,
}

impl Poller {
    /// The counts of the gateway `sought` of the object `key`, which is read from now on.
    pub fn take_gateway(&self, key: &Key, sought: Sought) -> Taken<Counted> {
        let now = Instant::now();
        if !self.is_on() || !self.is_followed.load(Ordering::Acquire) {
            return Taken::Apart;
        }
        let state = &mut *locked(&self.state);
        let Some(member) = state.members.get_mut(key) else {
            return Taken::Apart;
        };
        let known = member.gateway.take();
        let known = known.filter(|known| known.sought.is_same(&sought));
        let known = known.unwrap_or_else(|| AtGateway::new(sought, now));
        let at = member.gateway.insert(known);
        at.wanted_at = now;
        if at.is_left_out {
            return Taken::Apart;
        }
        let age_max = self.age_max();
        let fresh = at.read.as_ref();
        let fresh = fresh.filter(|read| read.asked_at.elapsed() <= age_max);
        let Some(read) = fresh.cloned() else {
            let since = *at.missing_since.get_or_insert(now);
            return match self.lack(state, since) {
                Lack::Apart => Taken::Apart,
                Lack::Soon(wait) => Taken::Soon(wait),
                Lack::Late => Taken::Here(Box::new(Counted {
                    rows: Err(late()),
                    warning: None,
                })),
            };
        };
        at.missing_since = None;
        if read.is_troubled() && !state.is_all_doubtful && state.may_ask_alone(self.period()) {
            return Taken::Apart;
        }
        Taken::Here(Box::new(Counted {
            rows: match &read.rows {
                Ok(split) => Ok(split.samples()),
                Err(error) => Err(as_of_one(error)),
            },
            warning: read.warning,
        }))
    }

    /// The gateways to read in the next round. Those that no pass wanted lately are forgotten.
    pub(super) fn gateway_jobs(&self) -> Vec<Job> {
        let state = &mut *locked(&self.state);
        let kept = self.kept_gateways(state);
        let numbers: HashMap<GatewayKey, usize> =
            kept.iter().map(|(key, _)| *key).zip(0..).collect();
        let mut listed = Vec::new();
        for (key, member) in &mut state.members {
            let Some(at) = &mut member.gateway else {
                continue;
            };
            let number = numbers.get(&at.sought.key);
            at.is_left_out = number.is_none();
            if let Some(number) = number {
                let candidate = Candidate {
                    shape: *number,
                    level: at.level,
                    namespace: &member.place.namespace,
                };
                listed.push((candidate, &at.sought.model, key));
            }
        }
        listed.sort_unstable_by_key(|(candidate, model, key)| (*candidate, *model, &key.name));
        let candidates: Vec<_> = listed.iter().map(|(candidate, ..)| *candidate).collect();
        let job = |chunk: plan::Chunk| {
            let first = *chunk.objects.first()?;
            let members = chunk.objects.iter().map(|&object| listed[object]);
            Some(Job {
                grouped: kept[candidates[first].shape].1.clone(),
                members: members.clone().map(|(.., key)| key.clone()).collect(),
                models: members.map(|(_, model, _)| model.clone()).collect(),
                is_named: chunk.is_named,
            })
        };
        let chunks = chunks(&candidates, QUERIES_MAX);
        chunks.into_iter().filter_map(job).collect()
    }

    /// The queries of the kinds of gateways with the most objects.
    fn kept_gateways(&self, state: &mut State) -> Vec<(GatewayKey, Grouped)> {
        let wanted_for = self.wanted_for();
        let mut counts: BTreeMap<GatewayKey, (usize, &Sought)> = BTreeMap::new();
        for member in state.members.values_mut() {
            let is_wanted = |at: &AtGateway| at.wanted_at.elapsed() < wanted_for;
            member.gateway = member.gateway.take().filter(is_wanted);
            if let Some(AtGateway { sought, .. }) = &member.gateway {
                counts.entry(sought.key).or_insert((0, sought)).0 += 1;
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, (count, _))| Reverse(*count));
        let queries = counts.into_iter().filter_map(|(key, (_, sought))| {
            match of_gateway(&sought.scope, sought.gateway) {
                Ok(grouped) => Some((key, grouped)),
                Err(error) => {
                    info!(%error, gateway = key.gateway, "gateways cannot be read together");
                    None
                }
            }
        });
        queries.take(QUERIES_MAX).collect()
    }

    /// Reads the gateways of `job`.
    pub(super) async fn read_gateways(&self, reader: &impl Reader, job: &Job) -> Faults {
        let settings = &self.settings;
        let mut directory = Directory::with_homes(&settings.homes);
        for (key, model) in job.members.iter().zip(&job.models) {
            directory.add_served(key.namespace.as_deref().unwrap_or_default(), model);
        }
        let mut models: Vec<&str> = Vec::new();
        if job.is_named {
            models.extend(job.models.iter().map(String::as_str));
            models.sort_unstable();
            models.dedup();
        }
        let query = Query {
            name: NAME,
            grouped: &job.grouped,
            parts: job.grouped.parts.clone().into(),
            directory: &directory,
            homes: &settings.homes,
            named: (&[], &models),
            labels: (&settings.namespace_label, &settings.pod_label),
        };
        let reads = query.read(reader).await;
        let mut faults = Faults::default();
        if let Some(read) = reads.first() {
            faults.add(read);
            if let (Err(error), false) = (&read.rows, read.is_own_fault) {
                warn!(%error, objects = reads.len(), "gateways cannot be read together now");
            }
        }
        let state = &mut *locked(&self.state);
        for ((key, model), read) in job.members.iter().zip(&job.models).zip(reads) {
            let member = state.members.get_mut(key);
            let at = member.and_then(|member| member.gateway.as_mut());
            if let Some(at) = at.filter(|at| at.sought.model == *model) {
                at.read = Some(read);
            }
        }
        faults
    }
}

impl State {
    /// Notes for the gateways of `job` whether their answer was of use.
    pub(super) fn gateways_read(&mut self, job: &Job, is_troubled: bool) {
        let is_alone = job.members.len() == 1;
        for key in &job.members {
            let member = self.members.get_mut(key);
            if let Some(at) = member.and_then(|member| member.gateway.as_mut()) {
                at.level = plan::level_after(at.level, is_troubled, is_alone);
            }
        }
    }
}
