//! Why a target is not scaled: each with the field, the value and the remedy.
//!
//! A refusal is about the target itself. Somebody else who sets the same replicas is an
//! [`Owner`](crate::owner::Owner), which a recommendation may stand beside.

/// Why a target is not scaled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The object holds several roles and the target names none of them.
    #[error("{kind} `{name}` has the roles {}: name one as `target.role`", listed(.have))]
    RoleMissing {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The roles that it has.
        have: Vec<String>,
    },
    /// The object has no such role.
    #[error("{kind} `{name}` has no role `{role}`, its roles are {}: correct `target.role`", listed(.have))]
    RoleUnknown {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The role that the target names.
        role: String,
        /// The roles that it has.
        have: Vec<String>,
    },
    /// The object is one role as a whole.
    #[error(
        "{kind} `{name}` is one role as a whole: leave `target.role` `{role}` out, and give each role its own {kind}"
    )]
    RoleNotApplicable {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The role that the target names.
        role: String,
    },
    /// Objects of the kind are not scaled by role.
    #[error("{kind} `{name}` is not scaled: {remedy}")]
    NotATarget {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// The kind has no `scale` subresource.
    #[error(
        "{kind} `{name}` has no `scale` subresource: name the object whose replicas its controller follows"
    )]
    NoScale {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// A change of replicas would replace running pods.
    #[error(
        "StormService `{name}` has updateStrategy.type `{strategy}`, by which a change of a role's replicas replaces all of its RoleSets: set `spec.updateStrategy.type: InPlaceUpdate`"
    )]
    ReplacesPods {
        /// The object's name.
        name: String,
        /// The strategy.
        strategy: String,
    },
    /// The object has several copies of its roles, of which each has its own replicas.
    #[error(
        "{kind} `{name}` has {field} `{copies}`, each with all roles: set it to 1 to scale roles"
    )]
    Copies {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The field with the number of copies.
        field: &'static str,
        /// Copies.
        copies: u32,
    },
    /// The role's replicas are set by an adapter, which is another object.
    #[error(
        "role `{role}` of {kind} `{name}` is scaled by its adapter: name {adapter_kind} `{adapter}` as target"
    )]
    ByAdapter {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The role.
        role: String,
        /// The adapter's kind.
        adapter_kind: &'static str,
        /// The adapter's name.
        adapter: String,
    },
    /// The adapter does not set the replicas of its role yet.
    #[error(
        "{kind} `{name}` is in phase `{phase}`, and its first binding overwrites its replicas: wait until `status.phase` is Bound"
    )]
    AdapterNotBound {
        /// The adapter's kind.
        kind: &'static str,
        /// The adapter's name.
        name: String,
        /// Its phase.
        phase: String,
    },
    /// An object that the target needs is not there.
    #[error("{kind} `{name}` needs {other_kind} `{other}`, which does not exist: {remedy}")]
    Lacks {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The missing object's kind.
        other_kind: &'static str,
        /// The missing object's name.
        other: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// The object is stopped on purpose.
    #[error("{kind} `{name}` is stopped by annotation `{annotation}`: remove it to scale")]
    Stopped {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The annotation.
        annotation: &'static str,
    },
    /// Somebody else sets the same replicas.
    #[error("{0}")]
    Contended(String),
    /// Fewer replicas than the system keeps alive.
    #[error(
        "{kind} `{name}` needs at least {floor} replicas by {cause}, and {to} are wanted: raise minReplicas to {floor}"
    )]
    BelowFloor {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Fewest replicas.
        floor: u32,
        /// The field that says so.
        cause: &'static str,
        /// Replicas wanted.
        to: u32,
    },
    /// Fewer pods than the object's gang needs.
    #[error(
        "{kind} `{name}` needs {floor} pods of all roles together by {cause}, and {to} would be left: lower that field, or raise minReplicas"
    )]
    BelowGang {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Fewest pods.
        floor: u32,
        /// The field that says so.
        cause: &'static str,
        /// Pods left.
        to: u32,
    },
    /// Roles that may only be at zero together.
    #[error(
        "DisaggregatedSet `{name}` lets its roles go to zero only together, and `{role}` would not go with the others: set `scaleToZero` for all of its roles, or raise minReplicas"
    )]
    ZeroAlone {
        /// The object's name.
        name: String,
        /// A role that would keep replicas.
        role: String,
    },
    /// Both roles are the same replicas.
    #[error(
        "prefill and decode both name the replicas of {kind} `{name}`: give each its own role or object"
    )]
    SameReplicas {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// Somebody changed the replicas meanwhile.
    #[error(
        "replicas of {kind} `{name}` are {found} and were {expected} when this was decided: deciding again"
    )]
    Moved {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Replicas found.
        found: u32,
        /// Replicas that the decision saw.
        expected: u32,
    },
    /// Its pods cannot be found.
    #[error("{kind} `{name}` has the selector `{selector}`, which cannot be read: {cause}")]
    Selector {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The selector.
        selector: String,
        /// The fault.
        cause: String,
    },
}

/// The remedy for an object that another one needs.
pub(crate) const CREATE: &str = "create it, or name another target";

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
