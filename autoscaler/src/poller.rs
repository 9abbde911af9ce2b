//! One poller for the controller's own Prometheus server: objects that use it are read together,
//! in rounds, by a number of queries that does not grow with theirs.
//!
//! A pass over an object takes what the last round read of it, with the time at which that was
//! asked for. Answers older than a round and the longest query are none: such a pass comes back a
//! moment later, and decides without metrics if they do not come at all. A chunk's fault is its
//! objects' alone: a server that fails is as unreachable as for their own queries, and a chunk that
//! one of them spoils is halved until that one is found. Nothing is shown of one object to another.
//! Rounds spread their chunks over the time between them, and end before the next begins, so that a
//! slow server is asked less.
//!
//! Refuses objects with a server of their own, and those whose pods are not shown by their
//! workload's name: they are asked about by themselves.

pub mod gateways;
pub mod here;
pub mod plan;
pub mod read;
pub mod round;
pub mod shape;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::PDAutoscaler;
use pd_signals::queries::Scope;
use tokio::{sync::Notify, time::Instant};

use self::{
    gateways::AtGateway,
    here::Here,
    read::{Place, Read},
    shape::{Kind, Shape, ShapeKey},
};
use crate::lock::locked;

/// Most time between two rounds: an interval that is longer needs answers no older.
const PERIOD_MAX: Duration = Duration::from_secs(15);

/// Objects that may be asked about by themselves in the time of a round because their group does
/// not serve them: newcomers, and those whose chunk is troubled.
const ALONE_MAX: usize = 4;

/// The part of the time between rounds after which a pass without answers comes back, and for which
/// newcomers are gathered after a time without any object.
const SOON: u32 = 5;

/// How objects are read together.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether they are.
    pub is_on: bool,
    /// Time between two decisions about an object.
    pub interval: Duration,
    /// Longest time of a query.
    pub timeout: Duration,
    /// Label of the namespace.
    pub namespace_label: String,
    /// Label of the pod.
    pub pod_label: String,
    /// Namespaces of what serves every namespace.
    pub homes: Vec<String>,
}

/// An object as a pass wants it read.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Its scope.
    pub scope: &'a Scope,
    /// Its namespace and workloads.
    pub place: Place,
    /// Whether attainment is wanted too.
    pub needs_attainment: bool,
    /// How old attainment may be.
    pub attainment_kept: Duration,
}

/// An answer to a pass.
#[derive(Debug)]
pub enum Taken<T = Here> {
    /// The answers.
    Here(Box<T>),
    /// They come: the pass is to come back after this time.
    Soon(Duration),
    /// The object is to be asked about by itself.
    Apart,
}

/// Reads objects together.
#[derive(Debug)]
pub struct Poller {
    settings: Settings,
    is_followed: AtomicBool,
    newcomer: Notify,
    state: Mutex<State>,
}

type Key = ObjectRef<PDAutoscaler>;

#[derive(Debug, Default)]
struct State {
    members: HashMap<Key, Member>,
    shapes: BTreeMap<ShapeKey, Arc<Shape>>,
    /// Kinds of which no queries can be made.
    unknown: HashSet<ShapeKey>,
    /// Whether no chunk of the last round had a whole answer, which is the server's fault then.
    is_all_doubtful: bool,
    /// Since when so many objects were asked about by themselves.
    alone: Option<(Instant, usize)>,
    /// Rounds after which every chunk has had its turn to have its attainment read.
    attainment_rounds: u32,
}

/// An object that is read.
#[derive(Debug)]
struct Member {
    key: ShapeKey,
    scope: Scope,
    place: Place,
    attainment_kept: Duration,
    wanted_at: Instant,
    missing_since: Option<Instant>,
    reads: [Option<Read>; 4],
    level: u8,
    /// Whether there is no room for its kind.
    is_left_out: bool,
    gateway: Option<AtGateway>,
}

/// Whatever becomes of a pass for which nothing was read yet.
enum Lack {
    /// The object may be asked about by itself.
    Apart,
    /// The pass is to come back after this time.
    Soon(Duration),
    /// It waited long enough, and goes on without.
    Late,
}

impl Member {
    fn new(ask: Ask<'_>, now: Instant) -> Self {
        Self {
            key: ShapeKey::of(ask.scope),
            scope: ask.scope.clone(),
            place: ask.place,
            attainment_kept: ask.attainment_kept,
            wanted_at: now,
            missing_since: None,
            reads: [const { None }; 4],
            level: 0,
            is_left_out: false,
            gateway: None,
        }
    }

    /// The read of `kind`, unless it is older than `age_max`.
    fn read(&self, kind: Kind, age_max: Duration) -> Option<&Read> {
        let read = self.reads[kind as usize].as_ref()?;
        (read.asked_at.elapsed() <= age_max).then_some(read)
    }
}

impl State {
    /// Whether one more object may be asked about by itself in this `period`.
    fn may_ask_alone(&mut self, period: Duration) -> bool {
        let now = Instant::now();
        let (since, used) = match self.alone {
            Some((since, used)) if now.duration_since(since) < period => (since, used),
            _ => (now, 0),
        };
        let may = used < ALONE_MAX;
        self.alone = Some((since, used + usize::from(may)));
        may
    }
}

impl Poller {
    /// A poller without any object.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            is_followed: AtomicBool::new(false),
            newcomer: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Whether objects are read together.
    pub const fn is_on(&self) -> bool {
        self.settings.is_on
    }

    /// Time between two rounds.
    fn period(&self) -> Duration {
        self.settings.interval.min(PERIOD_MAX)
    }

    /// How old answers may be: those of the last round, read as slowly as queries may be.
    fn age_max(&self) -> Duration {
        self.period() + self.settings.timeout
    }

    /// How long an object is read after a pass wanted it last.
    fn wanted_for(&self) -> Duration {
        self.age_max() + self.period()
    }

    /// Whatever becomes of a pass that has nothing `since` then.
    fn lack(&self, state: &mut State, since: Instant) -> Lack {
        let period = self.period();
        if state.may_ask_alone(period) {
            return Lack::Apart;
        }
        if since.elapsed() < self.age_max() + period {
            let soon = (period / SOON).max(Duration::from_secs(1));
            return Lack::Soon(soon.min(period));
        }
        Lack::Late
    }

    /// The answers about the object `key`, which is read from now on.
    pub fn take(&self, key: &Key, ask: Ask<'_>) -> Taken {
        let (now, period, age_max) = (Instant::now(), self.period(), self.age_max());
        let needs_attainment = ask.needs_attainment;
        if !self.settings.is_on || !self.is_followed.load(Ordering::Acquire) {
            return Taken::Apart;
        }
        let state = &mut *locked(&self.state);
        let shape = ShapeKey::of(ask.scope);
        if state.unknown.contains(&shape) {
            state.members.remove(key);
            return Taken::Apart;
        }
        let known = state.members.get(key);
        if known.is_none_or(|known| known.key != shape || known.place != ask.place) {
            state.members.insert(key.clone(), Member::new(ask, now));
            self.newcomer.notify_one();
        }
        let Some(member) = state.members.get_mut(key) else {
            return Taken::Apart;
        };
        member.wanted_at = now;
        if member.is_left_out {
            return Taken::Apart;
        }
        // Whoever has to wait for more turns than one has older ones, which are better than none.
        let turns = state.attainment_rounds.saturating_sub(1);
        let attainment_age = age_max.max(member.attainment_kept) + period * turns;
        let kinds = Kind::ALL
            .into_iter()
            .filter(|kind| *kind != Kind::Attainment || needs_attainment);
        let reads = kinds.map(|kind| match kind {
            Kind::Attainment => member.read(kind, attainment_age),
            _ => member.read(kind, age_max),
        });
        let Some(reads) = reads
            .map(Option::<&Read>::cloned)
            .collect::<Option<Vec<_>>>()
        else {
            let since = *member.missing_since.get_or_insert(now);
            return match self.lack(state, since) {
                Lack::Apart => Taken::Apart,
                Lack::Soon(wait) => Taken::Soon(wait),
                Lack::Late => Taken::Here(Box::new(Here::late(needs_attainment, now))),
            };
        };
        member.missing_since = None;
        let is_troubled = reads.iter().any(Read::is_troubled);
        if is_troubled && !state.is_all_doubtful && state.may_ask_alone(period) {
            return Taken::Apart;
        }
        Taken::Here(Box::new(Here::of(&reads, now)))
    }

    /// Forgets `key`, which is gone.
    pub fn forget(&self, key: &Key) {
        locked(&self.state).members.remove(key);
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        *locked(&self.state) = State::default();
    }
}
