//! The modelled API server and workload controllers, and everything that happens to them.

use std::collections::{BTreeMap, VecDeque};

use pd_core::budget::ledger::{Borrowing, Member, Preemption, Terms};

use crate::{
    process::{Broken, Process},
    random::Random,
};

/// Services, as many as members: each is a namespace of its own but the last two, which share one.
pub(crate) const SERVICES: usize = 4;

/// Ticks after which a write has landed or never will.
pub(crate) const IN_FLIGHT_TICKS: u64 = 30;

/// Ticks from a claim to the write of the replicas that it allows, at most.
pub(crate) const PASS_TICKS: u64 = 60;

/// Ticks that a pod takes to go: longer than a write is under way, as in life.
const GRACE_TICKS: u64 = 60;

/// Events in which everything comes to rest.
pub(crate) const CALM_EVENTS: usize = 6_000;

/// Things that happen beside what the processes do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Crashes, leaders, late writes, lost answers, stale reads.
    pub ours: bool,
    /// Hands of others: manual edits, pods deleted.
    pub others: bool,
    /// Another size of the budget.
    pub resized: bool,
}

impl Faults {
    /// Everything.
    pub(crate) const ALL: Self = Self {
        ours: true,
        others: true,
        resized: true,
    };
    /// Everything but the hands of others.
    pub(crate) const OURS: Self = Self {
        ours: true,
        others: false,
        resized: false,
    };
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        ours: false,
        others: false,
        resized: false,
    };
}

/// One role's workload.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub desired: u32,
    /// Its version; every change of the object makes a new one.
    pub version: u64,
    /// Replicas that its controller has seen.
    pub observed: u32,
    /// Pods that are not on their way out.
    pub running: u32,
    /// When those on their way out are gone.
    pub leaving: Vec<u64>,
    pub gpus: u32,
    /// Pods beyond the replicas that a rollout may have.
    pub surge: u32,
    /// Pods that a rollout still replaces.
    pub to_replace: u32,
}

impl Workload {
    /// Replicas that exist or are requested.
    pub(crate) fn holding(&self) -> u32 {
        self.running.max(self.desired) + u32::try_from(self.leaving.len()).unwrap()
    }

    /// The most replicas that may exist at a time while `desired` are requested, with the surge of
    /// a rollout. Pods beyond the replicas requested now are on their way out, whatever is
    /// requested next.
    pub(crate) fn with_surge(&self, desired: u32) -> u32 {
        let leaving = u32::try_from(self.leaving.len()).unwrap();
        let going = self.running.saturating_sub(desired.min(self.desired));
        let surge = if desired == 0 { 0 } else { self.surge };
        (desired + going + leaving).max(desired + surge)
    }
}

/// A service: both roles, and the replicas that it needs now.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub roles: [Workload; 2],
    pub need: [u32; 2],
}

impl Service {
    /// GPUs that exist or are requested.
    pub(crate) fn held(&self) -> u32 {
        self.roles
            .iter()
            .map(|role| role.holding() * role.gpus)
            .sum()
    }

    /// GPUs that exist or are requested, the surge of a rollout included.
    pub(crate) fn held_with_surge(&self) -> u32 {
        let of = |role: &Workload| role.with_surge(role.desired) * role.gpus;
        self.roles.iter().map(of).sum()
    }
}

/// The stored budget: its size and its ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub version: u64,
    pub gpus: u32,
    /// Grants and GPUs held as last stated, by service.
    pub grants: BTreeMap<usize, (u32, u32)>,
}

/// A write on its way, and who sent it for which pass.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub lands_at: u64,
    pub pass: u64,
    pub what: Change,
}

/// The change of a write, made if the version is still as read.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Grants(Stored),
    Replicas {
        service: usize,
        role: usize,
        version: u64,
        replicas: u32,
    },
}

/// An answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Conflict,
    Lost,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub now: u64,
    pub random: Random,
    pub faults: Faults,
    pub budget: Stored,
    pub services: Vec<Service>,
    /// Past states, for stale reads.
    pub past: VecDeque<(Stored, Vec<Service>)>,
    pub in_flight: Vec<Write>,
    pub answers: BTreeMap<u64, Answer>,
    pub processes: Vec<Process>,
    pub leader: usize,
    pub broken: Option<Broken>,
    pub scale_ups: u64,
    sizes: VecDeque<(u64, u32)>,
    /// GPUs that others added of late, and when.
    by_hand: VecDeque<(u64, u32)>,
    /// GPUs beyond the grants after each of the last events.
    beyond: VecDeque<u32>,
    held_before: u32,
    /// Whether the last event was the hands of others.
    by_others: bool,
}

/// Members: priorities and floors.
pub(crate) fn members() -> [Member<'static>; 3] {
    [("a", 3, 4), ("b", 1, 6), ("c", 2, 0)].map(|(name, priority, floor_gpus)| Member {
        name,
        priority,
        floor_gpus,
        most_gpus: u32::MAX,
    })
}

/// The member of a service.
pub(crate) const fn member_of(service: usize) -> usize {
    if service > 2 { 2 } else { service }
}

impl World {
    /// Four services of one replica each under a budget that they do not fill.
    pub(crate) fn new(mut random: Random, faults: Faults) -> Self {
        let gpus = random.between(40, 70);
        let workload = |random: &mut Random| Workload {
            desired: 1,
            version: 1,
            observed: 1,
            running: 1,
            leaving: vec![],
            gpus: random.between(1, 4),
            surge: random.between(0, 1),
            to_replace: 0,
        };
        let services: Vec<Service> = (0..SERVICES)
            .map(|_| Service {
                roles: [workload(&mut random), workload(&mut random)],
                need: [1, 1],
            })
            .collect();
        let grants = services
            .iter()
            .map(Service::held_with_surge)
            .map(|held| (held, held));
        let budget = Stored {
            version: 1,
            gpus,
            grants: grants.enumerate().collect(),
        };
        Self {
            now: 0,
            random,
            faults,
            past: VecDeque::from([(budget.clone(), services.clone())]),
            budget,
            services,
            in_flight: vec![],
            answers: BTreeMap::new(),
            processes: vec![Process::new(0, 0), Process::new(1, 0)],
            leader: 0,
            broken: None,
            scale_ups: 0,
            sizes: VecDeque::from([(0, gpus)]),
            by_hand: VecDeque::new(),
            beyond: VecDeque::new(),
            held_before: 0,
            by_others: false,
        }
    }

    /// The terms of the budget, of `gpus`.
    pub(crate) const fn terms(gpus: u32) -> Terms {
        Terms {
            gpus,
            borrowing: Borrowing::Allowed,
            preemption: Preemption::FairShare,
        }
    }

    /// One event; its name.
    pub(crate) fn step(&mut self) -> &'static str {
        self.now += 1;
        self.by_others = false;
        let what = self.event();
        self.land();
        for service in &mut self.services {
            for role in &mut service.roles {
                role.leaving.retain(|&gone_at| gone_at > self.now);
            }
        }
        self.past
            .push_back((self.budget.clone(), self.services.clone()));
        if self.past.len() > 12 {
            self.past.pop_front();
        }
        what
    }

    fn event(&mut self) -> &'static str {
        match self.random.below(100) {
            0..60 => {
                let process = self.random.below(2);
                Process::step(self, process);
                "a process"
            }
            60..80 => self.workload_controller(),
            80..86 => {
                if self.faults.ours {
                    let service = self.random.below(SERVICES);
                    let role = self.random.below(2);
                    self.services[service].need[role] = self.random.between(0, 12).max(1);
                }
                "another need"
            }
            86..89 => {
                if self.faults.ours {
                    self.leader = 1 - self.leader;
                    self.processes[self.leader].lead(self.now);
                }
                "another leader"
            }
            89..91 => {
                let process = self.random.below(2);
                if self.faults.ours {
                    self.processes[process] = Process::new(process, self.now);
                }
                "a crash"
            }
            91..94 => {
                if self.faults.ours {
                    self.rollout();
                }
                "a rollout"
            }
            94 if self.faults.others => self.others(),
            // Rare, so that services also grow: while it is exceeded, none does.
            97 if self.faults.resized && self.random.once_in(3) => {
                let gpus = self.random.between(20, 70);
                self.budget.gpus = gpus;
                self.budget.version += 1;
                self.sizes.push_back((self.now, gpus));
                "another size"
            }
            _ => "nothing",
        }
    }

    fn others(&mut self) -> &'static str {
        self.by_others = true;
        let service = self.random.below(SERVICES);
        let role = self.random.below(2);
        let gone_at = self.now + GRACE_TICKS;
        let replicas = self.random.between(1, 8);
        let workload = &mut self.services[service].roles[role];
        if replicas.is_multiple_of(2) && workload.running > 0 {
            workload.running -= 1;
            workload.leaving.push(gone_at);
            return "a pod deleted by somebody";
        }
        workload.desired = replicas;
        workload.version += 1;
        "a manual edit"
    }

    fn rollout(&mut self) {
        let service = self.random.below(SERVICES);
        let role = self.random.below(2);
        let workload = &mut self.services[service].roles[role];
        workload.version += 1;
        workload.to_replace = workload.running;
    }

    /// One step of the controller of some workload: it sees the replicas, or makes or ends a pod.
    fn workload_controller(&mut self) -> &'static str {
        let service = self.random.below(SERVICES);
        let role = self.random.below(2);
        let gone_at = self.now + GRACE_TICKS;
        let granted: u32 = self.budget.grants.values().map(|grant| grant.0).sum();
        let lowered = granted > self.gpus_lately();
        let workload = &mut self.services[service].roles[role];
        let leaving = u32::try_from(workload.leaving.len()).unwrap();
        if workload.observed != workload.desired {
            workload.observed = workload.desired;
            workload.version += 1;
        } else if workload.running > workload.observed && workload.to_replace == 0 {
            workload.running -= 1;
            workload.leaving.push(gone_at);
        } else if workload.running < workload.observed {
            workload.running += 1;
        } else if workload.to_replace > 0 {
            // New ones first, as far as the surge goes; then old ones leave.
            let most = workload.observed + workload.surge;
            if workload.running + leaving < most {
                workload.running += 1;
                // A rollout goes on within its grant, though the budget was lowered since.
                self.by_others = lowered;
            } else if workload.running > workload.observed || workload.surge == 0 {
                workload.to_replace -= 1;
                if workload.running > workload.observed {
                    workload.running -= 1;
                    workload.leaving.push(gone_at);
                }
            }
        }
        "a workload's controller"
    }

    /// Sends a write. It may land later, or at once; the answer may be lost.
    pub(crate) fn send(&mut self, pass: u64, what: Change) {
        let delay = if self.faults.ours && self.random.once_in(4) {
            u64::from(
                self.random
                    .between(0, u32::try_from(IN_FLIGHT_TICKS).unwrap() - 1),
            )
        } else {
            0
        };
        if self.faults.ours && self.random.once_in(12) {
            // Nobody hears how it ended, while it may land.
            self.answers.insert(pass, Answer::Lost);
            if self.random.once_in(2) {
                return;
            }
        }
        let lands_at = self.now + delay;
        self.in_flight.push(Write {
            lands_at,
            pass,
            what,
        });
    }

    fn land(&mut self) {
        let now = self.now;
        let due: Vec<Write> = self
            .in_flight
            .extract_if(.., |write| write.lands_at <= now)
            .collect();
        for write in due {
            let done = match write.what {
                Change::Grants(stored) => {
                    let current = stored.version == self.budget.version;
                    if current {
                        self.budget.grants = stored.grants;
                        self.budget.version += 1;
                    }
                    current
                }
                Change::Replicas {
                    service,
                    role,
                    version,
                    replicas,
                } => {
                    let workload = &mut self.services[service].roles[role];
                    let current = workload.version == version;
                    if current {
                        self.scale_ups += u64::from(replicas > workload.desired);
                        workload.desired = replicas;
                        workload.version += 1;
                    }
                    current
                }
            };
            let answer = if done { Answer::Done } else { Answer::Conflict };
            self.answers.entry(write.pass).or_insert(answer);
        }
    }

    /// GPUs that exist or are requested.
    pub(crate) fn held(&self) -> u32 {
        self.services.iter().map(Service::held).sum()
    }

    /// The largest size of the budget while a write that is under way was decided on.
    pub(crate) fn gpus_lately(&self) -> u32 {
        let recent = |at: u64| at + PASS_TICKS + IN_FLIGHT_TICKS >= self.now;
        let first = self
            .sizes
            .iter()
            .rposition(|&(at, _)| !recent(at))
            .unwrap_or(0);
        let sizes = self.sizes.iter().skip(first).map(|&(_, gpus)| gpus);
        sizes.max().unwrap_or(0)
    }

    /// GPUs that others made or requested beyond what is granted.
    pub(crate) fn beyond_grants(&self) -> u32 {
        let of = |(index, service): (usize, &Service)| {
            let granted = self.budget.grants.get(&index).map_or(0, |grant| grant.0);
            service.held().saturating_sub(granted)
        };
        self.services.iter().enumerate().map(of).sum()
    }

    /// GPUs above the budget.
    pub(crate) fn excess(&self) -> u32 {
        self.held().saturating_sub(self.gpus_lately())
    }

    /// The observer: nothing but others' hands makes the sum exceed the budget, or exceed it more.
    /// Whatever they added, or went beyond a grant before a process looked, excuses as much for as
    /// long as a decision of before may be written.
    pub(crate) fn check(&mut self, when: &str) {
        let added = self.held().saturating_sub(self.held_before);
        if self.by_others && added > 0 {
            self.by_hand.push_back((self.now, added));
        }
        let now = self.now;
        self.by_hand
            .retain(|&(at, _)| at + PASS_TICKS + IN_FLIGHT_TICKS >= now);
        let of_late: u32 = self.by_hand.iter().map(|&(_, added)| added).sum();
        self.beyond.push_back(self.beyond_grants());
        if self.beyond.len() > usize::try_from(PASS_TICKS + IN_FLIGHT_TICKS).unwrap() {
            self.beyond.pop_front();
        }
        let unseen = self.beyond.iter().copied().max().unwrap_or(0);
        let excused = of_late.max(unseen);
        let before = self.held_before.saturating_sub(self.gpus_lately());
        assert!(
            self.by_others || self.excess() <= before.max(excused),
            "{when}: {} GPUs exist or are requested of {}, {} before: {:?} {:?}",
            self.held(),
            self.gpus_lately(),
            self.held_before,
            self.budget,
            self.services
        );
        self.held_before = self.held();
    }

    /// No more faults, and every need as it is.
    pub(crate) fn leave_in_peace(&mut self) {
        self.faults = Faults::NONE;
    }

    /// Replicas requested of all roles.
    pub(crate) fn replicas(&self) -> Vec<u32> {
        let roles = self.services.iter().flat_map(|service| &service.roles);
        roles.map(|role| role.desired).collect()
    }

    /// Nobody is below its share by a replica or more.
    pub(crate) fn check_shares(&self, when: &str) {
        let shares = crate::process::shares(self);
        for (index, (service, share)) in self.services.iter().zip(shares).enumerate() {
            let held = service.held_with_surge();
            let largest = service
                .roles
                .iter()
                .map(|role| role.gpus * (1 + role.surge))
                .max();
            let least: u32 = service
                .roles
                .iter()
                .map(|role| role.gpus * (1 + role.surge))
                .sum();
            assert!(
                held + largest.unwrap() > share || held + least > share,
                "{when}: service {index} holds {held} and is due {share}: {:?} {:?}",
                self.budget,
                self.services
            );
        }
        assert!(self.held() <= self.budget.gpus, "{when}");
    }
}
