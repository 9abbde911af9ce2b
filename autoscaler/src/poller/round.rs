//! Rounds: every object is read once, chunk by chunk, spread over the time between two rounds.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use pd_signals::queries::Scope;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::{
    Key, Member, Poller, SOON, gateways,
    plan::{self, CHUNKS_MAX, Candidate, SHAPES_MAX, chunks, level_after},
    read::{Asked, Faults, Place, Read, Reader},
    shape::{Kind, Shape, ShapeKey},
};
use crate::lock::locked;

/// The part of the time between rounds over which chunks are spread. The rest is for the last.
const SPREAD: f64 = 0.8;

/// Chunks that are read at once at most, when a server is slow.
const AT_ONCE: usize = 4;

/// Most queries for attainment in a round. The rest of the chunks has them in the next.
const ATTAINMENT_MAX: usize = 7;

/// Most kinds that are known to have no queries. Beyond it they are tried again.
const UNKNOWN_MAX: usize = 1_000;

/// Numbers of one round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Queries that were sent.
    pub queries: usize,
    /// Objects that were read.
    pub objects: usize,
    /// Objects whose chunk was of no use, or not whole.
    pub troubled: usize,
    /// How long it took.
    pub took: Duration,
}

/// One chunk to read.
#[derive(Debug)]
struct Job {
    shape: Arc<Shape>,
    members: Vec<(Key, Place)>,
    is_named: bool,
    attainment_due: Option<Duration>,
}

/// Says for as long as it lives that rounds are made.
struct Followed<'a>(&'a AtomicBool);

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// How long ago attainment of `member` was read; nothing if it never was.
fn attainment_age(member: &Member) -> Option<Duration> {
    let read = member.reads[Kind::Attainment as usize].as_ref()?;
    Some(read.asked_at.elapsed())
}

impl Poller {
    /// Reads in rounds, and hands the numbers of each to `report`. Never ends.
    pub async fn follow(&self, reader: &impl Reader, report: impl Fn(Round)) {
        self.is_followed.store(true, Ordering::Release);
        let _followed = Followed(&self.is_followed);
        loop {
            let started = Instant::now();
            let round = self.round(reader).await;
            if round.objects == 0 {
                let newcomer = self.newcomer.notified();
                let came = timeout(self.period(), newcomer).await.is_ok();
                if came {
                    sleep(self.period() / SOON).await;
                }
                continue;
            }
            report(round);
            sleep_until(started + self.period()).await;
        }
    }

    /// Reads every object once, and every gateway.
    async fn round(&self, reader: &impl Reader) -> Round {
        let started = Instant::now();
        let jobs = self.jobs();
        let gateway_jobs = self.gateway_jobs();
        let count = u32::try_from(jobs.len() + gateway_jobs.len());
        let apart = self.period().mul_f64(SPREAD) / count.unwrap_or(u32::MAX).max(1);
        let mut turns = (0_u32..).map(|number| started + apart * number);
        let attainment = attainment_turns(&jobs);
        let mut reads: Vec<BoxFuture<'_, Faults>> = Vec::new();
        for (number, job) in jobs.iter().enumerate() {
            let at = turns.next().unwrap_or(started);
            let has_attainment = attainment.contains(&number);
            reads.push(Box::pin(async move {
                sleep_until(at).await;
                self.read(reader, job, has_attainment).await
            }));
        }
        for job in &gateway_jobs {
            let at = turns.next().unwrap_or(started);
            reads.push(Box::pin(async move {
                sleep_until(at).await;
                self.read_gateways(reader, job).await
            }));
        }
        let faults: Vec<Faults> = stream::iter(reads).buffered(AT_ONCE).collect().await;
        let took = started.elapsed();
        self.ended(&jobs, &gateway_jobs, &faults, took)
    }

    /// Notes for whoever was read whether the answer was of use. `faults` are those of `jobs` and
    /// then those of `gateway_jobs`.
    fn ended(
        &self,
        jobs: &[Job],
        gateway_jobs: &[gateways::Job],
        faults: &[Faults],
        took: Duration,
    ) -> Round {
        let is_all_doubtful = faults.len() > 1 && faults.iter().all(|faults| faults.is_doubtful);
        let is_troubled = |of: &Faults| of.is_refused || (of.is_doubtful && !is_all_doubtful);
        let (of_jobs, of_gateways) = faults.split_at(jobs.len().min(faults.len()));
        let mut troubled: HashSet<&Key> = HashSet::new();
        let state = &mut *locked(&self.state);
        state.is_all_doubtful = is_all_doubtful;
        for (job, faults) in jobs.iter().zip(of_jobs) {
            let keys = job.members.iter().map(|(key, _)| key);
            if faults.is_refused || faults.is_doubtful {
                troubled.extend(keys.clone());
            }
            for key in keys {
                if let Some(member) = state.members.get_mut(key) {
                    let is_alone = job.members.len() == 1;
                    member.level = level_after(member.level, is_troubled(faults), is_alone);
                }
            }
        }
        for (job, faults) in gateway_jobs.iter().zip(of_gateways) {
            if faults.is_refused || faults.is_doubtful {
                troubled.extend(&job.members);
            }
            state.gateways_read(job, is_troubled(faults));
        }
        Round {
            queries: faults.iter().map(|faults| faults.queries).sum(),
            objects: jobs.iter().map(|job| job.members.len()).sum(),
            troubled: troubled.len(),
            took,
        }
    }

    /// The chunks of the next round.
    fn jobs(&self) -> Vec<Job> {
        self.make_shapes();
        let state = &mut *locked(&self.state);
        let numbers: HashMap<&ShapeKey, usize> = state.shapes.keys().zip(0..).collect();
        for member in state.members.values_mut() {
            member.is_left_out = !numbers.contains_key(&member.key);
        }
        let mut listed = Vec::with_capacity(state.members.len());
        for (key, member) in &state.members {
            if let Some(number) = numbers.get(&member.key) {
                let candidate = Candidate {
                    shape: *number,
                    level: member.level,
                    namespace: &member.place.namespace,
                };
                listed.push((candidate, &key.name, key));
            }
        }
        listed.sort_unstable_by_key(|(candidate, name, _)| (*candidate, *name));
        let candidates: Vec<_> = listed.iter().map(|(candidate, ..)| *candidate).collect();
        let shapes: Vec<&Arc<Shape>> = state.shapes.values().collect();
        let job = |chunk: plan::Chunk| {
            let first = *chunk.objects.first()?;
            let keys = chunk.objects.iter().map(|&object| listed[object].2);
            let members = keys.filter_map(|key| Some((key, state.members.get(key)?)));
            let due = members.clone().map(|(_, member)| {
                let due = member.attainment_kept.saturating_sub(self.period() * 2);
                let age = attainment_age(member).unwrap_or(Duration::MAX);
                (age >= due).then_some(age)
            });
            Some(Job {
                shape: Arc::clone(shapes[candidates[first].shape]),
                attainment_due: due.max().flatten(),
                members: members
                    .map(|(key, member)| (key.clone(), member.place.clone()))
                    .collect(),
                is_named: chunk.is_named,
            })
        };
        let chunks = chunks(&candidates, CHUNKS_MAX);
        let jobs: Vec<Job> = chunks.into_iter().filter_map(job).collect();
        let turns = u32::try_from(jobs.len().div_ceil(ATTAINMENT_MAX));
        state.attainment_rounds = turns.unwrap_or(u32::MAX);
        jobs
    }

    /// Makes the queries of the kinds with the most objects, and forgets the others and whoever is
    /// not wanted any more.
    fn make_shapes(&self) {
        let lack: Vec<(ShapeKey, Scope)> = {
            let state = &mut *locked(&self.state);
            let wanted_for = self.wanted_for();
            state
                .members
                .retain(|_, member| member.wanted_at.elapsed() < wanted_for);
            let mut counts: BTreeMap<&ShapeKey, (usize, &Scope)> = BTreeMap::new();
            for member in state.members.values() {
                counts.entry(&member.key).or_insert((0, &member.scope)).0 += 1;
            }
            let mut counts: Vec<_> = counts.into_iter().collect();
            counts.sort_by_key(|(_, (count, _))| Reverse(*count));
            counts.truncate(SHAPES_MAX);
            let kept: HashMap<ShapeKey, Scope> = counts
                .into_iter()
                .map(|(key, (_, scope))| (key.clone(), scope.clone()))
                .collect();
            state.shapes.retain(|key, _| kept.contains_key(key));
            let lack = kept.into_iter();
            lack.filter(|(key, _)| !state.shapes.contains_key(key))
                .collect()
        };
        for (key, scope) in lack {
            // Outside of the lock, for it parses long texts.
            let shape = Shape::of(&scope);
            let state = &mut *locked(&self.state);
            match shape {
                Ok(shape) => {
                    state.shapes.insert(key, Arc::new(shape));
                }
                Err(error) => {
                    info!(%error, engine = scope.engine.name, "objects cannot be read together");
                    if state.unknown.len() >= UNKNOWN_MAX {
                        state.unknown.clear();
                    }
                    state.unknown.insert(key);
                }
            }
        }
    }

    /// Reads one chunk.
    async fn read(&self, reader: &impl Reader, job: &Job, has_attainment: bool) -> Faults {
        let places: Vec<&Place> = job.members.iter().map(|(_, place)| place).collect();
        let settings = &self.settings;
        let asked = Asked {
            shape: &job.shape,
            places: &places,
            is_named: job.is_named,
            homes: &settings.homes,
            labels: (&settings.namespace_label, &settings.pod_label),
        };
        let kinds = Kind::ALL
            .into_iter()
            .filter(|kind| *kind != Kind::Attainment || has_attainment);
        let mut reads: Vec<BoxFuture<'_, (Kind, Vec<Read>)>> = Vec::new();
        for kind in kinds {
            let asked = &asked;
            reads.push(Box::pin(
                async move { (kind, asked.read(reader, kind).await) },
            ));
        }
        let reads = join_all(reads).await;
        let mut faults = Faults::default();
        let state = &mut *locked(&self.state);
        for (kind, reads) in reads {
            if let Some(first) = reads.first() {
                faults.add(first);
                if let (Err(error), false) = (&first.rows, first.is_own_fault) {
                    warn!(%error, objects = reads.len(), "objects cannot be read together now");
                }
            }
            for ((key, place), read) in job.members.iter().zip(reads) {
                if let (Err(error), true) = (&read.rows, read.is_own_fault) {
                    warn!(%error, object = %key, "an object cannot be read with others");
                }
                let member = state.members.get_mut(key);
                if let Some(member) = member.filter(|member| member.place == *place) {
                    member.reads[kind as usize] = Some(read);
                }
            }
        }
        faults
    }
}

/// The jobs that read attainment in this round: those that lack it for longest.
fn attainment_turns(jobs: &[Job]) -> HashSet<usize> {
    let due = jobs.iter().zip(0..);
    let mut due: Vec<_> = due
        .filter_map(|(job, number)| Some((job.attainment_due?, number)))
        .collect();
    due.sort_by_key(|(age, _)| Reverse(*age));
    let turns = due.into_iter().take(ATTAINMENT_MAX);
    turns.map(|(_, number)| number).collect()
}

#[cfg(test)]
mod tests;
