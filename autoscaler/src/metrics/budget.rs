//! Gauges of the GPU budgets that objects share, and of the accounts in their ledgers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use kube::ResourceExt as _;
use pd_api::v1alpha1::GPUBudget;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::lock::locked;

/// Labels of a budget.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct BudgetLabels {
    budget: String,
}

/// Labels of an account in a budget's ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct AccountLabels {
    budget: String,
    namespace: String,
    name: String,
}

/// The gauges of one kind of labels.
type Gauges<L> = Family<L, Gauge>;

/// Gauges of all budgets.
#[derive(Debug, Default)]
pub(super) struct BudgetMetrics {
    total: Gauges<BudgetLabels>,
    held: Gauges<BudgetLabels>,
    granted: Gauges<AccountLabels>,
    account_held: Gauges<AccountLabels>,
    share: Gauges<AccountLabels>,
    wanted: Gauges<AccountLabels>,
    /// Which accounts each budget has gauges of.
    known: Mutex<BTreeMap<String, BTreeSet<AccountLabels>>>,
}

impl BudgetMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut budget = |name: &str, help: &str, gauges: &Gauges<BudgetLabels>| {
            registry.register(name, help, gauges.clone());
        };
        budget("budget_gpus", "GPUs of a GPUBudget", &self.total);
        let held = "GPUs that exist or are requested under a GPUBudget";
        budget("budget_held_gpus", held, &self.held);
        let mut account = |name: &str, help: &str, gauges: &Gauges<AccountLabels>| {
            registry.register(name, help, gauges.clone());
        };
        let granted = "GPUs that a GPUBudget grants to a PDAutoscaler";
        account("budget_account_granted_gpus", granted, &self.granted);
        let held = "GPUs of a PDAutoscaler that exist or are requested under a GPUBudget";
        account("budget_account_held_gpus", held, &self.account_held);
        let share = "GPUs of a GPUBudget that are the due of a PDAutoscaler";
        account("budget_account_share_gpus", share, &self.share);
        let wanted = "GPUs that a PDAutoscaler needs of a GPUBudget";
        account("budget_account_wanted_gpus", wanted, &self.wanted);
    }

    /// The ledger of `budget` was written.
    pub(super) fn written(&self, budget: &GPUBudget) {
        let Some(status) = &budget.status else { return };
        let name = budget.name_any();
        let labels = BudgetLabels {
            budget: name.clone(),
        };
        self.total
            .get_or_create(&labels)
            .set(budget.spec.gpus.into());
        self.held
            .get_or_create(&labels)
            .set(status.held_gpus.into());
        let mut now = BTreeSet::new();
        for row in &status.accounts {
            let labels = AccountLabels {
                budget: name.clone(),
                namespace: row.namespace.clone(),
                name: row.name.clone(),
            };
            self.granted
                .get_or_create(&labels)
                .set(row.granted_gpus.into());
            self.account_held
                .get_or_create(&labels)
                .set(row.held_gpus.into());
            self.share.get_or_create(&labels).set(row.share_gpus.into());
            self.wanted
                .get_or_create(&labels)
                .set(row.wanted_gpus.into());
            now.insert(labels);
        }
        let mut known = locked(&self.known);
        let before = known.insert(name, now.clone()).unwrap_or_default();
        self.forget(before.difference(&now));
    }

    /// There are these budgets and no others.
    pub(super) fn are<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let names: BTreeSet<&String> = names.collect();
        let mut known = locked(&self.known);
        known.retain(|budget, accounts| {
            let stays = names.contains(budget);
            if !stays {
                let labels = BudgetLabels {
                    budget: budget.clone(),
                };
                self.total.remove(&labels);
                self.held.remove(&labels);
                self.forget(accounts.iter());
            }
            stays
        });
    }

    fn forget<'a>(&self, accounts: impl Iterator<Item = &'a AccountLabels>) {
        for labels in accounts {
            for gauges in [&self.granted, &self.account_held, &self.share, &self.wanted] {
                gauges.remove(labels);
            }
        }
    }
}
