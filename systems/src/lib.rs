//! The workload systems that PDAutoscaler scales.
//!
//! Large models run on many kinds of workloads, and each has its own idea of a replica, of who sets
//! their number and of a safe way to change it. This crate knows these ideas. An object of the API
//! server goes in, with what is near it; out come a [`Place`](place::Place), or a reason why
//! the target must not be scaled ([`Refusal`](refusal::Refusal)). From a place and its pods follow
//! the replicas as they are ([`observe`](observe::observe)), and from places and wanted replicas
//! the writes ([`edits`](edit::edits)).
//!
//! It reads no cluster and writes none: values in, values out. It owns no decision either: how many
//! replicas a role needs is pd-core's.

mod build;
pub mod drain;
pub mod edit;
pub mod gpus;
mod json;
pub mod kind;
pub mod member;
pub mod observe;
pub mod owner;
pub mod place;
pub mod pod;
pub mod refusal;
pub mod selector;
pub mod stuck;
pub mod system;
pub mod systems;
pub mod target;
#[cfg(test)]
mod testing;
pub mod victims;

use crate::{kind::Kind, system::System};

/// Every system with kinds of its own. Of a kind in none of them, any `scale` is written:
/// [`AnyScale`](systems::scale::AnyScale).
pub const ALL: [&dyn System; 11] = [
    &systems::apps::Apps,
    &systems::lws::LeaderWorkerSets,
    &systems::disaggregated_set::DisaggregatedSets,
    &systems::rbg::RoleBasedGroups,
    &systems::storm::StormServices,
    &systems::kthena::ModelServings,
    &systems::dynamo::Dynamo,
    &systems::grove::Grove,
    &systems::production_stack::ProductionStack,
    &systems::kserve::LlmInferenceServices,
    &systems::llmaz::Llmaz,
];

/// The system whose kind that is, and the kind; nothing for kinds that are known by their `scale`
/// alone.
pub fn find(api_version: &str, kind: &str) -> Option<(&'static dyn System, &'static Kind)> {
    ALL.into_iter().find_map(|system| {
        let known = system
            .kinds()
            .iter()
            .find(|known| known.is(api_version, kind))?;
        Some((system, known))
    })
}

/// The system that scales such objects: one that knows the kind, or any `scale`.
pub fn system(api_version: &str, kind: &str) -> &'static dyn System {
    find(api_version, kind).map_or(&systems::scale::AnyScale, |(system, _)| system)
}

/// `targets.<switch>.enabled` in the chart that grants the rights on such objects; empty where they
/// are always granted.
pub fn switch(api_version: &str, kind: &str) -> &'static str {
    find(api_version, kind).map_or(systems::scale::ANY.switch, |(_, kind)| kind.switch)
}
