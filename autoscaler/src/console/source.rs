//! Everything that pages are made of: the objects as watched, and their last hour.
//!
//! The watch is the console's own, so that a controller that does not lead shows its objects too,
//! and has their history when it comes to lead. Objects are kept as status shows them, without the
//! parts that no page needs. Only the replicas that the objective needs are not in status: they
//! come from the decisions of this process, and are not known while another one leads.

use std::{sync::Mutex, time::Duration};

use futures::{StreamExt as _, pin_mut};
use kube::{
    Api, Resource as _, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store, store::Writer},
        watcher::{self, watcher},
    },
};
use pd_api::v1alpha1::{PDAutoscaler, PDAutoscalerStatus};
use pd_core::PerRole;
use pd_runtime::leader::Leadership;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::warn;

use super::history::{History, PERIOD, Point};
use crate::{Guarded, context::Clock, lock::locked, selection::SelectionArgs};

/// First pause after a watch that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after many failures in a row.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Replicas that the objective of an object needs, as this process decided last.
pub type Need = PerRole<Option<u32>>;

/// Why objects may be missing or old. It says nothing of the API server's answer: that is in the
/// log, for those who run the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing is listed yet.
    Unlisted,
    /// The CRD is not there.
    Absent,
    /// There is no right to list them.
    Forbidden,
    /// The API server does not answer.
    Unanswered,
}

impl Trouble {
    /// None where a watch only began too long ago: everything is then listed again.
    fn of(error: &watcher::Error) -> Option<Self> {
        let code = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => status.code,
            _ => 0,
        };
        match code {
            410 => None,
            404 => Some(Self::Absent),
            401 | 403 => Some(Self::Forbidden),
            _ => Some(Self::Unanswered),
        }
    }
}

/// The process that shows the pages.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name in leader election.
    pub identity: Option<String>,
    /// The namespace that it watches, if not all.
    pub namespace: Option<String>,
    /// The objects that it handles.
    pub selection: SelectionArgs,
}

/// Everything that pages are made of.
#[derive(Debug)]
pub struct Source {
    /// The process.
    pub about: About,
    objects: Store<Guarded>,
    history: Mutex<History>,
    trouble: Mutex<Option<Trouble>>,
    leadership: watch::Receiver<Leadership>,
    clock: Clock,
}

impl Source {
    /// Nothing is known yet. `objects` is filled by [`Source::follow`].
    pub fn new(
        about: About,
        objects: Store<Guarded>,
        leadership: watch::Receiver<Leadership>,
        clock: Clock,
    ) -> Self {
        Self {
            about,
            objects,
            history: Mutex::default(),
            trouble: Mutex::new(Some(Trouble::Unlisted)),
            leadership,
            clock,
        }
    }

    /// Watches objects into `writer`, and samples them. `need` looks up a decision of this process.
    /// Never ends.
    pub async fn follow(
        &self,
        api: Api<Guarded>,
        writer: Writer<Guarded>,
        need: impl Fn(&ObjectRef<PDAutoscaler>) -> Option<Need>,
    ) {
        let samples = async {
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.sample(&need);
            }
        };
        futures::join!(self.watch(api, writer), samples);
    }

    async fn watch(&self, api: Api<Guarded>, writer: Writer<Guarded>) {
        let events = watcher(api, watcher::Config::default())
            .modify(trim)
            .reflect(writer);
        pin_mut!(events);
        let mut pause = PAUSE;
        while let Some(event) = events.next().await {
            match event {
                // The store shows a list only when it is whole.
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                Ok(_) => {
                    self.report(None);
                    pause = PAUSE;
                }
                Err(error) => {
                    if let Some(trouble) = Trouble::of(&error) {
                        warn!(%error, "the console cannot watch PDAutoscalers, trying again");
                        self.report(Some(trouble));
                    }
                    sleep(pause).await;
                    pause = (2 * pause).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Notes whether objects can be seen, and why not.
    pub fn report(&self, trouble: Option<Trouble>) {
        *locked(&self.trouble) = trouble;
    }

    /// Adds a point for each object, once they are listed. While they cannot be seen nothing is
    /// known of them, and the charts have a gap.
    pub fn sample(&self, need: impl Fn(&ObjectRef<PDAutoscaler>) -> Option<Need>) {
        let trouble = self.trouble();
        if trouble == Some(Trouble::Unlisted) {
            return;
        }
        let objects = self.objects();
        let points = objects.iter().filter_map(|object| {
            let uid = object.meta().uid.as_deref()?;
            let namespace = object.namespace().unwrap_or_default();
            let key = ObjectRef::new(&object.name_any()).within(&namespace);
            let decoded = object.0.as_ref().ok().filter(|_| trouble.is_none());
            let status = decoded.and_then(|object| object.status.as_ref());
            Some((uid, point(status, need(&key).unwrap_or_default())))
        });
        locked(&self.history).record(self.now().as_second(), points);
    }

    /// The objects that this controller handles, in no order.
    pub fn objects(&self) -> Vec<std::sync::Arc<Guarded>> {
        let selection = &self.about.selection;
        self.objects
            .state_filter(|object| selection.includes(object))
    }

    /// The object of that name, if this controller handles it.
    pub fn object(&self, namespace: &str, name: &str) -> Option<std::sync::Arc<Guarded>> {
        let found = self.objects.get(&ObjectRef::new(name).within(namespace))?;
        self.about.selection.includes(&found).then_some(found)
    }

    /// The last hour of an object, the oldest point first, with seconds since 1970.
    pub fn points(&self, uid: &str) -> Vec<(i64, Point)> {
        locked(&self.history).points(uid)
    }

    /// Why objects may be missing or old.
    pub fn trouble(&self) -> Option<Trouble> {
        *locked(&self.trouble)
    }

    /// Whether this process decides, or which one does as far as it is known.
    pub fn leader(&self) -> Leader {
        match &*self.leadership.borrow() {
            Leadership::Following { leader } => Leader::Other(leader.clone()),
            leading if leading.is_leader() => Leader::This,
            Leadership::Leading { .. } => Leader::Other(None),
        }
    }

    /// The time of day.
    pub fn now(&self) -> jiff::Timestamp {
        (self.clock)()
    }
}

/// The process that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// The one that shows the page.
    This,
    /// Another one, by its name if it is known.
    Other(Option<String>),
}

/// Takes away the parts that no page needs: they are most of an object's bytes.
fn trim(object: &mut Guarded) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.annotations = None;
    meta.finalizers = None;
    meta.owner_references = None;
    if let Ok(object) = &mut object.0 {
        object.spec.schedules = Vec::new();
    }
}

/// A point of what status shows.
fn point(status: Option<&PDAutoscalerStatus>, need: Need) -> Point {
    let roles = PerRole {
        prefill: status.and_then(|status| status.prefill.as_ref()),
        decode: status.and_then(|status| status.decode.as_ref()),
    };
    let attainment = status.and_then(|status| status.attainment.as_ref());
    let percent = |text: Option<&String>| text.and_then(|text| text.parse().ok());
    Point::new(
        roles.map(|role| role.and_then(|role| role.desired_replicas)),
        roles.map(|role| role.map(|role| role.ready_replicas)),
        need,
        PerRole {
            prefill: percent(attainment.and_then(|kept| kept.ttft_percent.as_ref())),
            decode: percent(attainment.and_then(|kept| kept.tpot_percent.as_ref())),
        },
    )
}
