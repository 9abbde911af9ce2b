//! Faults, in the words of a scenario.
//!
//! A fault is one flat entry of a list: a kind, when it strikes, and what that kind needs to know.
//! A field that its kind has no use for is refused, since a fault that is not played would pass for
//! one that was survived.

use pd_core::Role;
use serde::{Deserialize, Serialize};

use super::lifecycle::SECONDS_MAX;
use super::{ScenarioError, ensure};
use crate::fault::{Effect, Fault};
use crate::time::from_seconds;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultKind {
    /// Engines of serving replicas crash and are started again where they are.
    Crash,
    /// Engines that start crash before they are ready, again and again.
    StartFailure,
    /// Images cannot be pulled.
    ImagePullFailure,
    /// Nodes fail with all that runs on them.
    NodeFailure,
    /// Nodes are taken away after a notice.
    SpotReclaim,
    /// No GPUs are left for more replicas.
    GpuScarcity,
    /// Engines are slower than the profile says.
    Slowdown,
    /// Scrapes are lost.
    ScrapeLoss,
    /// Prometheus is down.
    PrometheusOutage,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultSpec {
    /// The kind of fault.
    pub kind: FaultKind,
    /// When it strikes first, seconds of the run.
    pub at_seconds: f64,
    /// From one strike to the next, seconds; without, there is one.
    pub every_seconds: Option<f64>,
    /// How long it lasts, seconds; without, to the end of the run.
    pub for_seconds: Option<f64>,
    /// Whom it strikes; without, both roles.
    pub role: Option<Role>,
    /// Share of replicas, nodes, starts or scrapes that it strikes, 0 to 1.
    pub share: Option<f64>,
    /// Slowdown: times that the engines take, as multiples of the profile's, 0.1 to 10.
    pub factor: Option<f64>,
    /// Spot reclaim: seconds from the notice to the node's end.
    pub notice_seconds: Option<f64>,
    /// GPU scarcity: replicas start only while the service holds fewer GPUs than this.
    pub gpus: Option<u32>,
}

/// Fields that only some kinds have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    For,
    Role,
    Share,
    Factor,
    Notice,
    Gpus,
}

impl Field {
    const ALL: [Self; 6] = [
        Self::For,
        Self::Role,
        Self::Share,
        Self::Factor,
        Self::Notice,
        Self::Gpus,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::For => "forSeconds",
            Self::Role => "role",
            Self::Share => "share",
            Self::Factor => "factor",
            Self::Notice => "noticeSeconds",
            Self::Gpus => "gpus",
        }
    }
}

impl FaultKind {
    /// Fields that this kind must have, and those it may have.
    fn fields(self) -> (&'static [Field], &'static [Field]) {
        use Field::{Factor, For, Gpus, Notice, Role, Share};
        match self {
            Self::Crash => (&[], &[Role, Share]),
            Self::StartFailure | Self::ScrapeLoss => (&[Share], &[For, Role]),
            Self::ImagePullFailure => (&[], &[For, Role]),
            Self::NodeFailure => (&[], &[For, Role, Share]),
            Self::SpotReclaim => (&[Notice], &[For, Role, Share]),
            Self::GpuScarcity => (&[Gpus], &[For]),
            Self::Slowdown => (&[Factor], &[For, Role]),
            Self::PrometheusOutage => (&[], &[For]),
        }
    }
}

impl FaultSpec {
    fn has(&self, field: Field) -> bool {
        match field {
            Field::For => self.for_seconds.is_some(),
            Field::Role => self.role.is_some(),
            Field::Share => self.share.is_some(),
            Field::Factor => self.factor.is_some(),
            Field::Notice => self.notice_seconds.is_some(),
            Field::Gpus => self.gpus.is_some(),
        }
    }

    /// Refuses what cannot be played; `index` is its place in the list.
    pub(super) fn validate(&self, index: usize) -> Result<(), ScenarioError> {
        let field = |name: &str| format!("faults[{index}].{name}");
        let (required, optional) = self.kind.fields();
        for known in Field::ALL {
            let kind = format!("{:?}", self.kind);
            let missing = required.contains(&known) && !self.has(known);
            let remedy = "give it: this kind of fault needs it";
            ensure(!missing, &field(known.name()), "nothing", remedy)?;
            let useless =
                !required.contains(&known) && !optional.contains(&known) && self.has(known);
            let remedy = "remove it: this kind of fault has no use for it";
            ensure(!useless, &field(known.name()), kind, remedy)?;
        }
        let at = self.at_seconds;
        let usable = (0.0..=1e8).contains(&at);
        ensure(
            usable,
            &field("atSeconds"),
            at,
            "give 0 to 100000000 seconds",
        )?;
        let times = [
            ("everySeconds", self.every_seconds, 1.0),
            ("forSeconds", self.for_seconds, 0.001),
            ("noticeSeconds", self.notice_seconds, 0.0),
        ];
        for (name, time, least) in times {
            let usable = time.is_none_or(|time| (least..=SECONDS_MAX).contains(&time));
            let remedy = "give up to 604800 seconds, and 1 or more between two strikes";
            ensure(usable, &field(name), time.unwrap_or_default(), remedy)?;
        }
        let share = self.share.unwrap_or_default();
        let usable = (0.0..=1.0).contains(&share);
        ensure(usable, &field("share"), share, "give 0 to 1")?;
        let factor = self.factor.unwrap_or(1.0);
        let usable = (0.1..=10.0).contains(&factor);
        ensure(usable, &field("factor"), factor, "give 0.1 to 10")
    }

    pub(super) fn fault(&self) -> Fault {
        let share = self.share.unwrap_or_default();
        Fault {
            effect: match self.kind {
                FaultKind::Crash => Effect::Crash,
                FaultKind::StartFailure => Effect::StartFailure(share),
                FaultKind::ImagePullFailure => Effect::ImagePullFailure,
                FaultKind::NodeFailure => Effect::NodeFailure,
                FaultKind::SpotReclaim => Effect::SpotReclaim {
                    notice: from_seconds(self.notice_seconds.unwrap_or_default()),
                },
                FaultKind::GpuScarcity => Effect::GpuScarcity(self.gpus.unwrap_or_default()),
                FaultKind::Slowdown => Effect::Slowdown(self.factor.unwrap_or(1.0)),
                FaultKind::ScrapeLoss => Effect::ScrapeLoss(share),
                FaultKind::PrometheusOutage => Effect::PrometheusOutage,
            },
            at: from_seconds(self.at_seconds),
            every: self.every_seconds.map(from_seconds),
            lasts: self.for_seconds.map(from_seconds),
            role: self.role,
            share,
        }
    }
}
