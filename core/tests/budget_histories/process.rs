//! A process that follows the ledger's rules, one request at a time, as the controller does.

use std::time::Duration;

use pd_core::{
    Timestamp,
    budget::ledger::{Account, Entry, may_preempt, settle},
};

use crate::world::{
    Answer, Change, IN_FLIGHT_TICKS, PASS_TICKS, SERVICES, Service, Stored, World, member_of,
    members,
};

/// Services reconciled at once.
const PASSES_MAX: usize = 2;

/// Ticks that replicas take to serve.
const LEAD_TICKS: u64 = 40;

const NAMES: [&str; SERVICES] = ["a", "b", "c1", "c2"];

/// One rule of the ledger, broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Replicas are written before the grant is known to be.
    ScaleBeforeGrant,
    /// Grants are lowered to what an old read showed.
    LowerOnAnOldRead,
    /// Pods on their way out are not counted.
    ForgetLeaving,
    /// Pods beyond the replicas requested are not counted.
    ForgetGoing,
    /// Grants are lowered while writes of replicas may be under way.
    LowerTooSoon,
    /// The surge of rollouts is not counted.
    ForgetSurge,
    /// Grants are built on before a write of the ledger's own shows that no earlier one can follow.
    BuildOnARead,
}

impl Broken {
    pub(crate) const ALL: [Self; 7] = [
        Self::ScaleBeforeGrant,
        Self::LowerOnAnOldRead,
        Self::ForgetLeaving,
        Self::ForgetGoing,
        Self::LowerTooSoon,
        Self::ForgetSurge,
        Self::BuildOnARead,
    ];
}

/// A process, with the memory that a crash loses.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    id: usize,
    /// Since when it leads.
    since: u64,
    ledger: Option<Stored>,
    /// Whether `ledger` is what this process wrote, and not only read.
    is_own: bool,
    /// Until when a write of replicas of each service may be under way.
    unsettled: [u64; SERVICES],
    short_since: [Option<u64>; SERVICES],
    passes: Vec<Pass>,
    started: u64,
}

#[derive(Clone, Debug)]
struct Pass {
    id: u64,
    service: usize,
    phase: Phase,
}

/// The most that a service may hold.
#[derive(Clone, Copy, Debug)]
struct Most {
    cap: u32,
    may_grow: bool,
    /// Until when replicas may be written on it: each request of a pass has a time limit.
    until: u64,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The grants are on their way.
    Granting {
        stored: Stored,
        most: Most,
        seen: Service,
    },
    /// The grants are written: now the replicas may be, by what was seen for the claim.
    Granted { most: Most, seen: Service },
    /// The replicas are on their way.
    Scaling,
}

impl Process {
    /// A process without memory.
    pub(crate) const fn new(id: usize, now: u64) -> Self {
        Self {
            id,
            since: now,
            ledger: None,
            is_own: false,
            unsettled: [0; SERVICES],
            short_since: [None; SERVICES],
            passes: Vec::new(),
            started: now * 100,
        }
    }

    /// Leads from `now` on.
    pub(crate) fn lead(&mut self, now: u64) {
        *self = Self {
            started: self.started,
            ..Self::new(self.id, now)
        };
    }

    /// One step of process `id`.
    pub(crate) fn step(world: &mut World, id: usize) {
        let mut process = std::mem::replace(&mut world.processes[id], Self::new(id, 0));
        process.run(world);
        world.processes[id] = process;
    }

    fn run(&mut self, world: &mut World) {
        if world.leader != self.id {
            // Leadership is checked before each write.
            self.passes.clear();
            return;
        }
        if self.ledger.is_none() {
            self.ledger = Some(stale(world).0);
            self.is_own = world.broken == Some(Broken::BuildOnARead);
            return;
        }
        let service = world.random.below(SERVICES);
        if let Some(index) = self.passes.iter().position(|pass| pass.service == service) {
            let pass = self.passes.swap_remove(index);
            if let Some(next) = self.advance(world, pass) {
                self.passes.push(next);
            }
        } else if self.passes.len() < PASSES_MAX && !self.is_granting() {
            self.started += 1;
            let id = self.started * 2 + u64::try_from(self.id).unwrap();
            let phase = self.claim(world, id, service);
            self.passes.push(Pass { id, service, phase });
        }
    }

    /// Whether a claim waits for its grants to be written: one claim at a time is at the ledger.
    fn is_granting(&self) -> bool {
        let mut passes = self.passes.iter();
        passes.any(|pass| matches!(pass.phase, Phase::Granting { .. }))
    }

    /// Reads a service, settles the ledger, and writes the grants if they change.
    fn claim(&mut self, world: &mut World, id: u64, service: usize) -> Phase {
        let ledger = self.ledger.clone().unwrap();
        let mut seen = stale(world).1.swap_remove(service);
        let fresh = &world.services[service];
        let grows = (0..2).any(|role| seen.need[role] > seen.roles[role].desired);
        if grows && world.broken != Some(Broken::LowerOnAnOldRead) {
            seen.clone_from(fresh);
        }
        let mut held = held(&seen, world.broken);
        let mut is_certain = world.broken == Some(Broken::LowerOnAnOldRead);
        let mut entries = self.settled(world, &ledger, service, held, is_certain);
        let grant = ledger.grants.get(&service).map_or(0, |grant| grant.0);
        let quiet = world.now >= self.since + IN_FLIGHT_TICKS
            && world.now >= self.unsettled[service]
            || world.broken == Some(Broken::LowerTooSoon);
        if grant > held && quiet && world.broken != Some(Broken::LowerOnAnOldRead) {
            let fresh = &world.services[service];
            seen.clone_from(fresh);
            is_certain = fresh.roles.iter().all(|role| role.observed == role.desired);
            held = self::held(fresh, world.broken);
            entries = self.settled(world, &ledger, service, held, is_certain);
        }
        for (short, entry) in self.short_since.iter_mut().zip(&entries) {
            let is_short = entry.granted_gpus < entry.share_gpus;
            *short = if is_short {
                short.or(Some(world.now))
            } else {
                None
            };
        }
        let most = Most {
            cap: entries[service].cap_gpus,
            may_grow: entries[service].may_grow,
            until: world.now + PASS_TICKS,
        };
        let mut stored = ledger.clone();
        for (index, entry) in entries.iter().enumerate() {
            let stated = ledger.grants.get(&index).map_or(0, |grant| grant.1);
            let stated = if index == service { held } else { stated };
            stored.grants.insert(index, (entry.granted_gpus, stated));
        }
        if stored == ledger && self.is_own {
            return Phase::Granted { most, seen };
        }
        world.send(id, Change::Grants(stored.clone()));
        if world.broken == Some(Broken::ScaleBeforeGrant) {
            self.ledger = Some(stored);
            return Phase::Granted { most, seen };
        }
        Phase::Granting { stored, most, seen }
    }

    fn settled(
        &self,
        world: &World,
        ledger: &Stored,
        service: usize,
        held: u32,
        is_certain: bool,
    ) -> Vec<Entry> {
        let account = |index: usize| {
            let (granted_gpus, stated) = ledger.grants.get(&index).copied().unwrap_or_default();
            let short_since = self.short_since[index];
            let at = |tick: u64| Timestamp::from_millis(i64::try_from(tick).unwrap());
            Account {
                name: NAMES[index],
                member: Some(member_of(index)),
                granted_gpus,
                held_gpus: if index == service { held } else { stated },
                is_certain: is_certain && index == service,
                wanted_gpus: cost(&world.services[index], world.services[index].need),
                least_gpus: cost(&world.services[index], [1, 1]),
                unit_gpus: 1,
                may_preempt: may_preempt(
                    short_since.map(at),
                    at(world.now),
                    Duration::from_millis(LEAD_TICKS),
                ),
            }
        };
        let accounts: Vec<Account<'_>> = (0..SERVICES).map(account).collect();
        settle(World::terms(ledger.gpus), &members(), &accounts)
    }

    fn advance(&mut self, world: &mut World, pass: Pass) -> Option<Pass> {
        let Pass { id, service, phase } = pass;
        match phase {
            Phase::Granting {
                mut stored,
                most,
                seen,
            } => match world.answers.remove(&id) {
                None => Some(Pass {
                    id,
                    service,
                    phase: Phase::Granting { stored, most, seen },
                }),
                Some(Answer::Done) => {
                    stored.version += 1;
                    self.ledger = Some(stored);
                    self.is_own = true;
                    Some(Pass {
                        id,
                        service,
                        phase: Phase::Granted { most, seen },
                    })
                }
                Some(Answer::Conflict | Answer::Lost) => {
                    self.ledger = None;
                    None
                }
            },
            Phase::Granted { most, seen } => {
                world.answers.remove(&id);
                self.scale(world, (id, service), &seen, most)
            }
            Phase::Scaling => match world.answers.remove(&id) {
                None => Some(Pass {
                    id,
                    service,
                    phase: Phase::Scaling,
                }),
                Some(Answer::Lost) => {
                    self.unsettled[service] = world.now + IN_FLIGHT_TICKS;
                    None
                }
                Some(Answer::Done | Answer::Conflict) => None,
            },
        }
    }

    /// Writes the replicas of one role, if they fit beside all that was `seen` for the claim.
    fn scale(
        &self,
        world: &mut World,
        (id, service): (u64, usize),
        seen: &Service,
        most: Most,
    ) -> Option<Pass> {
        let Most {
            cap,
            may_grow,
            until,
        } = most;
        if world.now > until {
            return None;
        }
        let granted = self.ledger.as_ref()?.grants.get(&service)?.0;
        let target = fitted(seen, needed(seen, cap), cap);
        let change = |role: usize| {
            let desired = seen.roles[role].desired;
            if target[role] <= desired {
                return (target[role] < desired).then_some(target[role]);
            }
            // As far as it fits beside everything that exists.
            let fits = |&replicas: &u32| {
                let mut to = [seen.roles[0].desired, seen.roles[1].desired];
                to[role] = replicas;
                at(seen, to, world.broken) <= cap.min(granted)
            };
            let more = (desired + 1..=target[role]).rev();
            more.take_while(|_| may_grow).find(fits)
        };
        let grows = (0..2).find(|&role| change(role).is_some_and(|r| r > seen.roles[role].desired));
        let role = grows.or_else(|| (0..2).find(|&role| change(role).is_some()))?;
        let replicas = change(role)?;
        let version = seen.roles[role].version;
        world.send(
            id,
            Change::Replicas {
                service,
                role,
                version,
                replicas,
            },
        );
        Some(Pass {
            id,
            service,
            phase: Phase::Scaling,
        })
    }
}

/// A read, perhaps of a while ago.
fn stale(world: &mut World) -> (Stored, Vec<Service>) {
    let latest = world.past.len() - 1;
    let index = if world.faults.ours && world.random.once_in(2) {
        world.random.below(latest + 1)
    } else {
        latest
    };
    if index == latest {
        return (world.budget.clone(), world.services.clone());
    }
    world.past[index].clone()
}

fn held(service: &Service, broken: Option<Broken>) -> u32 {
    let requested = [service.roles[0].desired, service.roles[1].desired];
    at(service, requested, broken)
}

/// The most GPUs while `replicas` are requested.
fn at(service: &Service, replicas: [u32; 2], broken: Option<Broken>) -> u32 {
    let mut roles = service.roles.clone();
    for role in &mut roles {
        if broken == Some(Broken::ForgetLeaving) {
            role.leaving.clear();
        }
        if broken == Some(Broken::ForgetGoing) {
            role.running = role.running.min(role.desired);
        }
        if broken == Some(Broken::ForgetSurge) {
            role.surge = 0;
        }
    }
    let roles = roles.iter().zip(replicas);
    roles
        .map(|(role, replicas)| role.with_surge(replicas) * role.gpus)
        .sum()
}

/// GPUs of `replicas` with their surge.
fn cost(service: &Service, replicas: [u32; 2]) -> u32 {
    let roles = service.roles.iter().zip(replicas);
    let of = |(role, replicas): (&crate::world::Workload, u32)| {
        let surge = if replicas == 0 { 0 } else { role.surge };
        (replicas + surge) * role.gpus
    };
    roles.map(of).sum()
}

/// Nothing is of use below one replica of each role.
fn needed(service: &Service, cap: u32) -> [u32; 2] {
    if cost(service, [1, 1]) > cap {
        [0, 0]
    } else {
        service.need
    }
}

/// `need`, lowered a replica of the larger role at a time until it fits under `cap`.
fn fitted(service: &Service, need: [u32; 2], cap: u32) -> [u32; 2] {
    let mut replicas = need;
    while cost(service, replicas) > cap && replicas.iter().any(|&count| count > 1) {
        let larger = usize::from(replicas[1] > replicas[0]);
        replicas[larger] -= 1;
    }
    replicas
}

/// The share of each service, as the ledger stands.
pub(crate) fn shares(world: &World) -> Vec<u32> {
    let process = &world.processes[world.leader];
    let held = world.budget.grants.get(&0).map_or(0, |grant| grant.1);
    let entries = process.settled(world, &world.budget, 0, held, false);
    entries.iter().map(|entry| entry.share_gpus).collect()
}
