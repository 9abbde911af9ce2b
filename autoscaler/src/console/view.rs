//! The values of a page, as JSON has them and markup shows them.
//!
//! They hold what status holds and nothing else of a tenant: of the spec the mode, targets, bounds
//! and objective, and neither queries nor servers. Pure: objects in, values out.

use kube::{Resource as _, ResourceExt as _};
use pd_api::{
    ConditionState, ConditionType, condition,
    v1alpha1::{
        GpuStatus, PDAutoscaler, PDAutoscalerStatus, RoleStatus,
        status::{MESSAGE_LENGTH_MAX, truncated},
    },
    wording::{least_attainment, limited_by},
};
use serde::Serialize;

use super::query::{Query, Show};
use crate::Guarded;

/// Objects on one page.
pub(super) const PAGE: usize = 100;

/// An object in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(skip)]
    pub(super) uid: String,
    /// Absent when the object cannot be decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<&'static str>,
    pub(super) ready: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefill: Option<RoleStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decode: Option<RoleStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gpus: Option<GpuStatus>,
    /// Percent of requests that kept the limit which fewer kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attainment_percent: Option<String>,
    /// Percent that are to keep both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) objective_percent: Option<i32>,
    /// Whether the objective holds; absent when not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) objective_met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limited_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bottleneck: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_decision: Option<Decided>,
}

/// The condition Ready.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    /// True, False or Unknown.
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// The last decision, without its steps.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decided {
    pub(super) time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Row {
    pub(super) fn of(object: &Guarded) -> Self {
        let row = Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.meta().uid.clone().unwrap_or_default(),
            mode: None,
            ready: verdict(None),
            prefill: None,
            decode: None,
            ratio: None,
            gpus: None,
            attainment_percent: None,
            objective_percent: None,
            objective_met: None,
            limited_by: None,
            bottleneck: None,
            last_decision: None,
        };
        match &object.0 {
            Ok(object) => row.with(object),
            Err(invalid) => Self {
                ready: Verdict {
                    status: ConditionState::False.as_str().to_owned(),
                    reason: pd_core::Reason::SpecInvalid.as_str().to_owned(),
                    message: truncated(&invalid.error, MESSAGE_LENGTH_MAX).into_owned(),
                },
                ..row
            },
        }
    }

    fn with(self, object: &PDAutoscaler) -> Self {
        let row = Self {
            mode: Some(object.spec.mode.as_str()),
            objective_percent: Some(object.spec.objective.attainment.percent),
            ..self
        };
        let Some(status) = &object.status else {
            return row;
        };
        Self {
            ready: verdict(Some(status)),
            prefill: status.prefill.clone(),
            decode: status.decode.clone(),
            ratio: status
                .ratio
                .as_ref()
                .and_then(|ratio| ratio.current.clone()),
            gpus: status.gpus.clone(),
            attainment_percent: least_attainment(status).map(str::to_owned),
            objective_met: objective_met(status),
            limited_by: limited_by(status).map(str::to_owned),
            bottleneck: status.bottleneck.clone(),
            last_decision: status.last_decision.as_ref().map(|last| Decided {
                time: last.time.clone(),
                reason: last.reason.clone(),
                message: last.message.clone(),
            }),
            ..row
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.status == ConditionState::True.as_str()
    }
}

fn verdict(status: Option<&PDAutoscalerStatus>) -> Verdict {
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    match condition::get(conditions, ConditionType::Ready) {
        Some(ready) => Verdict {
            status: ready.status.clone(),
            reason: ready.reason.clone(),
            message: ready.message.clone(),
        },
        None => Verdict {
            status: ConditionState::Unknown.as_str().to_owned(),
            reason: String::new(),
            message: "no controller has looked at it yet".to_owned(),
        },
    }
}

fn objective_met(status: &PDAutoscalerStatus) -> Option<bool> {
    let met = condition::get(&status.conditions, ConditionType::ObjectiveMet)?;
    match met.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// All objects in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) objects: usize,
    pub(super) ready: usize,
    pub(super) objective_missed: usize,
    pub(super) limited: usize,
    pub(super) gpus: i64,
    pub(super) gpus_desired: i64,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    /// About all objects, whatever is searched for.
    pub(super) summary: Summary,
    /// Objects that the query finds.
    pub(super) found: usize,
    /// The page, from 1.
    pub(super) page: usize,
    pub(super) pages: usize,
    pub(super) items: Vec<Row>,
}

impl List {
    /// The page of `objects` that `query` is about, in the order of namespaces and names.
    pub(super) fn of(objects: &[std::sync::Arc<Guarded>], query: &Query) -> Self {
        let mut summary = Summary::default();
        let mut rows = Vec::new();
        for object in objects {
            let row = Row::of(object);
            summary.add(&row);
            if finds(query, &row) {
                rows.push(row);
            }
        }
        rows.sort_by(|one, other| {
            (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name))
        });
        let (found, pages) = (rows.len(), rows.len().div_ceil(PAGE).max(1));
        let page = query.page.min(pages);
        let items = rows.into_iter().skip((page - 1) * PAGE).take(PAGE);
        Self {
            summary,
            found,
            page,
            pages,
            items: items.collect(),
        }
    }
}

impl Summary {
    fn add(&mut self, row: &Row) {
        self.objects += 1;
        self.ready += usize::from(row.is_ready());
        self.objective_missed += usize::from(row.objective_met == Some(false));
        self.limited += usize::from(row.limited_by.is_some());
        let gpus = row.gpus.as_ref();
        let current = gpus.map_or(0, |gpus| gpus.current);
        let desired = gpus.and_then(|gpus| gpus.desired).unwrap_or(current);
        self.gpus = self.gpus.saturating_add(current);
        self.gpus_desired = self.gpus_desired.saturating_add(desired);
    }
}

fn finds(query: &Query, row: &Row) -> bool {
    let is_shown = match query.show {
        Show::All => true,
        Show::NotReady => !row.is_ready(),
        Show::Missed => row.objective_met == Some(false),
        Show::Limited => row.limited_by.is_some(),
    };
    // Names of Kubernetes have small letters alone.
    is_shown && format!("{}/{}", row.namespace, row.name).contains(&query.search)
}
