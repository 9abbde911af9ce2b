//! The target that a user names, the objects to read for it, and those that were read.

use pd_core::Role;
use serde_json::Value;

use crate::{
    json::{name, text},
    kind::Kind,
    refusal::Refusal,
};

/// The workload of one role, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `apiVersion` of the object.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The role inside the object, where it holds several.
    pub role: Option<String>,
    /// The side that the role is for.
    pub side: Role,
}

impl Target {
    /// The API group, empty for the core's.
    pub fn group(&self) -> &str {
        group(&self.api_version)
    }

    /// The kind among several versions of one that the target's `apiVersion` names; the last where
    /// it names none.
    pub(crate) fn version_of<'a>(&self, versions: [&'a Kind; 2]) -> &'a Kind {
        let [newest, older] = versions;
        if self.api_version == newest.api_version() {
            newest
        } else {
            older
        }
    }

    /// Refuses a role in an object that is one role as a whole.
    pub(crate) fn without_role(&self) -> Result<(), Refusal> {
        match &self.role {
            None => Ok(()),
            Some(role) => Err(Refusal::RoleNotApplicable {
                kind: self.kind.clone(),
                name: self.name.clone(),
                role: role.clone(),
            }),
        }
    }

    /// The target needs `other` of `kind`, which is not there.
    pub(crate) fn lacks(&self, kind: &Kind, other: &str, remedy: &'static str) -> Refusal {
        Refusal::Lacks {
            kind: self.kind.clone(),
            name: self.name.clone(),
            other_kind: kind.kind,
            other: other.to_owned(),
            remedy,
        }
    }
}

/// The API group of `api_version`.
pub fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// An object in the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// `apiVersion`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Resource: the kind's plural in addresses.
    pub plural: String,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// The object `name` of a known kind.
    pub fn new(kind: &Kind, name: &str) -> Self {
        Self {
            api_version: kind.api_version(),
            kind: kind.kind.to_owned(),
            plural: kind.plural.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// Objects beside the target that have to be read to judge it. A kind that the cluster does not
/// have is no error: there are none of it then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearby {
    /// The API group.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The resource.
    pub plural: &'static str,
    /// Which objects of the kind.
    pub which: Which,
}

impl Nearby {
    /// Objects of a known kind.
    pub(crate) const fn of(kind: &Kind, which: Which) -> Self {
        Self {
            group: kind.group,
            version: kind.version,
            kind: kind.kind,
            plural: kind.plural,
            which,
        }
    }
}

/// Which objects of a kind are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All in the namespace.
    All,
    /// The one of that name.
    Named(String),
    /// Those that match a selector.
    Labelled(String),
}

/// The target's object and what is near it, as the API server gave them.
#[derive(Clone, Copy, Debug)]
pub struct Near<'a> {
    /// The object that the target names.
    pub object: &'a Value,
    /// Its `scale` subresource, where the system reads it.
    pub scale: Option<&'a Value>,
    /// Objects beside it, each with `apiVersion` and `kind`.
    pub related: &'a [Value],
}

impl<'a> Near<'a> {
    /// The related object of `kind` and that name.
    pub(crate) fn named(&self, kind: &str, of: &str) -> Option<&'a Value> {
        self.of_kind(kind).find(|object| name(object) == of)
    }

    /// The related objects of `kind`.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &'a Value> {
        let related = self.related.iter();
        related.filter(move |object| text(object, "/kind") == Some(kind))
    }
}
