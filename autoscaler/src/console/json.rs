//! The pages as JSON, for programs: the same values, under `/api/`.

use pd_api::{
    explanation::{Explanation, explanation},
    v1alpha1::PDAutoscalerStatus,
};
use pd_core::{PerRole, Role};
use serde::Serialize;

use super::{
    history::Point,
    query::Query,
    source::{Leader, Source, Trouble},
    view::{List, Row},
};
use crate::Guarded;

/// The state of the process that answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Controller {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    leads: bool,
    /// The one that leads, if it is another one and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    /// The namespace that is watched, if not all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// Why objects may be missing or old: Unlisted, Absent, Forbidden or Unanswered.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'static str>,
    time: String,
}

impl Controller {
    fn of(source: &Source) -> Self {
        let leader = source.leader();
        Self {
            version: crate::VERSION,
            identity: source.about.identity.clone(),
            leads: leader == Leader::This,
            leader: match leader {
                Leader::This => None,
                Leader::Other(leader) => leader,
            },
            namespace: source.about.namespace.clone(),
            trouble: source.trouble().map(|trouble| match trouble {
                Trouble::Unlisted => "Unlisted",
                Trouble::Absent => "Absent",
                Trouble::Forbidden => "Forbidden",
                Trouble::Unanswered => "Unanswered",
            }),
            time: source.now().to_string(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListAnswer {
    controller: Controller,
    #[serde(flatten)]
    list: List,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectAnswer {
    controller: Controller,
    #[serde(flatten)]
    row: Row,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<PDAutoscalerStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
    history: HistoryAnswer,
}

/// The last hour, the oldest first; null where a number is not known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HistoryAnswer {
    /// Seconds since 1970.
    times: Vec<i64>,
    prefill: Replicas,
    decode: Replicas,
    attainment_percent: Kept,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replicas {
    desired: Vec<Option<u32>>,
    ready: Vec<Option<u32>>,
    needed: Vec<Option<u32>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    ttft: Vec<Option<f64>>,
    tpot: Vec<Option<f64>>,
}

impl HistoryAnswer {
    fn of(points: &[(i64, Point)]) -> Self {
        let replicas = |role: Role| {
            let of = |value: fn(&Point) -> PerRole<Option<u32>>| {
                points.iter().map(|(_, point)| value(point)[role]).collect()
            };
            Replicas {
                desired: of(Point::desired),
                ready: of(Point::ready),
                needed: of(Point::need),
            }
        };
        let kept = |role: Role| {
            let shares = points
                .iter()
                .map(|(_, point)| point.attainment_percent()[role]);
            shares.collect()
        };
        Self {
            times: points.iter().map(|(at, _)| *at).collect(),
            prefill: replicas(Role::Prefill),
            decode: replicas(Role::Decode),
            attainment_percent: Kept {
                ttft: kept(Role::Prefill),
                tpot: kept(Role::Decode),
            },
        }
    }
}

/// A page of the list.
pub(super) fn list(source: &Source, query: &Query) -> serde_json::Result<String> {
    serde_json::to_string(&ListAnswer {
        controller: Controller::of(source),
        list: List::of(&source.objects(), query),
    })
}

/// Everything about one object.
pub(super) fn object(source: &Source, object: &Guarded) -> serde_json::Result<String> {
    let row = Row::of(object);
    let decoded = object.0.as_ref().ok();
    serde_json::to_string(&ObjectAnswer {
        controller: Controller::of(source),
        history: HistoryAnswer::of(&source.points(&row.uid)),
        status: decoded.and_then(|object| object.status.clone()),
        explanation: decoded.map(explanation),
        row,
    })
}
