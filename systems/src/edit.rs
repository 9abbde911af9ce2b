//! From places and wanted replicas to writes.
//!
//! A write changes the replicas of roles and nothing else, and only if they are what the decision
//! saw. Where one object holds both roles, both change in one write, so that no half of a decision
//! is ever in force. Where two objects do, what grows is written first: if the second write fails,
//! the service has too much and not too little.
//!
//! Role lists of most systems are atomic lists, which a merge patch would replace as a whole. A
//! JSON patch names the element by its index and tests that it is still the role that was meant.
//! `add` stands for `replace`, which fails where the field is absent.

use json_patch::{AddOperation, Patch, PatchOperation, TestOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

use crate::{
    place::{Field, Place},
    refusal::Refusal,
    target::ObjectRef,
};

/// Wanted replicas of one place.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The place.
    pub place: &'a Place,
    /// Replicas that the decision saw.
    pub from: u32,
    /// Replicas wanted.
    pub to: u32,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The object.
    pub object: ObjectRef,
    /// The write.
    pub write: Write,
    /// Which of the changes it makes, by their index.
    pub changes: Vec<usize>,
}

/// How an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Through `scale`, against a version of the object.
    Scale {
        /// Replicas.
        replicas: u32,
        /// The object's version as read.
        resource_version: Option<String>,
    },
    /// By a JSON patch.
    JsonPatch(Patch),
}

impl Change<'_> {
    /// The value of the field that gives at least the wanted replicas: copies have as many each.
    fn value(&self) -> u32 {
        self.to.div_ceil(self.place.copies.max(1))
    }

    /// Whether the field has to be written.
    fn differs(&self) -> bool {
        let stated = self.place.stated;
        self.to != self.place.desired && stated != Some(self.value())
    }

    fn grows(&self) -> bool {
        self.to > self.place.desired
    }

    fn allowed(&self) -> Result<(), Refusal> {
        let place = self.place;
        let (kind, name) = (place.object.kind.clone(), place.object.name.clone());
        if let Some(owner) = place.owners.first() {
            return Err(Refusal::Contended(owner.sentence(&kind, &name)));
        }
        let (expected, found) = (self.from, place.desired);
        if found != expected {
            return Err(Refusal::Moved {
                kind,
                name,
                found,
                expected,
            });
        }
        let (floor, cause) = (place.floor.replicas, place.floor.cause);
        let lowers = self.to < place.desired;
        if lowers && self.to < floor {
            return Err(Refusal::BelowFloor {
                kind,
                name,
                floor,
                cause,
                to: self.to,
            });
        }
        Ok(())
    }
}

/// The writes that make `changes`, in their order. None where nothing differs.
pub fn edits(changes: &[Change<'_>]) -> Result<Vec<Edit>, Refusal> {
    let differing: Vec<usize> = (0..changes.len())
        .filter(|&i| changes[i].differs())
        .collect();
    for &index in &differing {
        changes[index].allowed()?;
    }
    distinct(changes)?;
    gangs(changes)?;
    zero_together(changes)?;
    let mut edits: Vec<Edit> = Vec::new();
    for &index in &differing {
        let place = changes[index].place;
        let joined = edits
            .iter_mut()
            .find(|edit| edit.object == place.object && matches!(edit.write, Write::JsonPatch(_)));
        match joined {
            Some(edit) => edit.changes.push(index),
            None => edits.push(Edit {
                object: place.object.clone(),
                write: Write::JsonPatch(Patch::default()),
                changes: vec![index],
            }),
        }
    }
    for edit in &mut edits {
        edit.write = write(changes, &edit.changes);
    }
    edits.sort_by_key(|edit| !edit.changes.iter().any(|&index| changes[index].grows()));
    Ok(edits)
}

fn write(all: &[Change<'_>], indices: &[usize]) -> Write {
    let mut operations = Vec::new();
    for &index in indices {
        let change = &all[index];
        let place = change.place;
        let (pointer, tests) = match &place.field {
            Field::Scale => {
                return Write::Scale {
                    replicas: change.value(),
                    resource_version: place.resource_version.clone(),
                };
            }
            Field::Path { pointer, tests } => (pointer, tests),
        };
        if operations.is_empty()
            && let Some(version) = &place.resource_version
        {
            operations.push(test("/metadata/resourceVersion", json!(version)));
        }
        operations.extend(
            tests
                .iter()
                .map(|(pointer, value)| test(pointer, value.clone())),
        );
        if let Some(stated) = place.stated {
            operations.push(test(pointer, json!(stated)));
        }
        operations.push(PatchOperation::Add(AddOperation {
            path: path(pointer),
            value: json!(change.value()),
        }));
    }
    Write::JsonPatch(Patch(operations))
}

fn test(pointer: &str, value: Value) -> PatchOperation {
    PatchOperation::Test(TestOperation {
        path: path(pointer),
        value,
    })
}

/// Pointers are made by this crate, from escaped parts; one that cannot be read names nothing, and
/// a test of it fails.
fn path(pointer: &str) -> PointerBuf {
    PointerBuf::parse(pointer).unwrap_or_else(|_| PointerBuf::from_tokens(["unreadable"]))
}

/// No two changes are of the same replicas.
fn distinct(changes: &[Change<'_>]) -> Result<(), Refusal> {
    for (index, change) in changes.iter().enumerate() {
        let place = change.place;
        let same = |other: &Change<'_>| {
            other.place.object == place.object && other.place.field == place.field
        };
        if changes[..index].iter().any(same) {
            let (kind, name) = (place.object.kind.clone(), place.object.name.clone());
            return Err(Refusal::SameReplicas { kind, name });
        }
    }
    Ok(())
}

/// No change leaves an object fewer pods than the gang of all its roles needs.
fn gangs(changes: &[Change<'_>]) -> Result<(), Refusal> {
    for change in changes {
        let Some(gang) = change.place.gang else {
            continue;
        };
        let same = changes
            .iter()
            .filter(|other| other.place.object == change.place.object);
        let moved: i64 = same
            .map(|other| {
                let pods = i64::from(other.place.unit.pods);
                (i64::from(other.to) - i64::from(other.place.desired)) * pods
            })
            .sum();
        let left = i64::from(gang.pods_now) + moved;
        if moved < 0 && left < i64::from(gang.pods_min) {
            let place = change.place;
            return Err(Refusal::BelowGang {
                kind: place.object.kind.clone(),
                name: place.object.name.clone(),
                floor: gang.pods_min,
                cause: gang.cause,
                to: u32::try_from(left).unwrap_or(0),
            });
        }
    }
    Ok(())
}

/// Roles that may be at zero only together are.
fn zero_together(changes: &[Change<'_>]) -> Result<(), Refusal> {
    for change in changes.iter().filter(|change| change.differs()) {
        let Field::Path { pointer: own, .. } = &change.place.field else {
            continue;
        };
        for (pointer, replicas) in &change.place.zero_together {
            let other = changes.iter().find(|other| {
                other.place.object == change.place.object
                    && matches!(&other.place.field, Field::Path { pointer: at, .. } if at == pointer)
            });
            let replicas = other.map_or(*replicas, |other| other.to);
            if pointer != own && (change.to == 0) != (replicas == 0) {
                let name = change.place.object.name.clone();
                let role = pointer.clone();
                return Err(Refusal::ZeroAlone { name, role });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
