//! Writes change the replicas alone, and are refused where something else changed meanwhile.

use json_patch::patch;
use pd_core::Role;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    systems::{apps::DEPLOYMENT, rbg::ROLE_BASED_GROUP},
    testing::{differences, object, place, resolve, template, wanted},
};

fn deployment(name: &str, replicas: u32) -> Place {
    let spec = json!({ "replicas": replicas, "selector": { "matchLabels": { "app": name } }, "template": template(1) });
    resolve(
        &DEPLOYMENT,
        &object(&DEPLOYMENT, name, spec),
        &[],
        None,
        Role::Decode,
    )
    .unwrap()
}

#[test]
fn of_two_objects_what_grows_is_written_first() {
    let (p, d) = (deployment("p", 4), deployment("d", 2));
    let names = |p_to, d_to| {
        let edits = wanted(&[(&p, p_to), (&d, d_to)]).unwrap();
        edits
            .into_iter()
            .map(|edit| edit.object.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(2, 4), ["d", "p"]);
    assert_eq!(names(6, 1), ["p", "d"]);
    assert_eq!(names(4, 3), ["d"]);
    assert_eq!(names(4, 2), [""; 0]);
    assert_eq!(names(0, 0), ["p", "d"]);
}

#[test]
fn replicas_that_somebody_changed_are_not_written() {
    let place = deployment("p", 4);
    let refusal = edits(&[Change {
        place: &place,
        from: 3,
        to: 6,
    }])
    .unwrap_err();
    assert!(
        matches!(
            refusal,
            Refusal::Moved {
                found: 4,
                expected: 3,
                ..
            }
        ),
        "{refusal}"
    );
    // They were changed to the number that was wanted.
    assert_eq!(
        edits(&[Change {
            place: &place,
            from: 3,
            to: 4
        }]),
        Ok(Vec::new())
    );
}

#[test]
fn one_pool_is_not_two_roles() {
    let place = deployment("p", 4);
    assert!(matches!(
        wanted(&[(&place, 5), (&place, 6)]),
        Err(Refusal::SameReplicas { .. })
    ));
}

proptest! {
    /// A patch changes the replicas of the roles it is for and nothing else, whatever the list
    /// looks like; and of a list that changed meanwhile it changes nothing.
    #[test]
    fn a_patch_changes_the_replicas_and_nothing_else(
        replicas in proptest::collection::vec(proptest::option::of(0_u32..50), 2..6),
        p in any::<proptest::sample::Index>(),
        d in any::<proptest::sample::Index>(),
        to in (0_u32..50, 0_u32..50),
        other in 0_u32..50,
    ) {
        let name = |index: usize| format!("role-{index}");
        let roles: Vec<Value> = replicas.iter().enumerate().map(|(index, replicas)| {
            let mut role = json!({ "name": name(index), "annotations": { "keep": "x" } });
            if let Some(replicas) = replicas {
                role["replicas"] = json!(replicas);
            }
            role
        }).collect();
        let group = object(&ROLE_BASED_GROUP, "g", json!({ "roles": roles }));
        let (p, d) = (p.index(replicas.len()), d.index(replicas.len()));
        prop_assume!(p != d);
        let places = (place(&ROLE_BASED_GROUP, &group, &name(p)), place(&ROLE_BASED_GROUP, &group, &name(d)));
        let edits = wanted(&[(&places.0, to.0), (&places.1, to.1)]).unwrap();
        prop_assert!(edits.len() <= 1);
        let mut after = group.clone();
        for edit in &edits {
            let Write::JsonPatch(operations) = &edit.write else { panic!() };
            patch(&mut after, operations).unwrap();
            let mut moved = group.clone();
            moved["spec"]["roles"][p]["replicas"] = json!(other);
            if p == edit.changes.first().map_or(p, |_| p) && replicas[p] != Some(other) && to.0 != places.0.desired {
                let before = moved.clone();
                // The version is another one then, too.
                moved["metadata"]["resourceVersion"] = json!("8");
                prop_assert!(patch(&mut moved, operations).is_err());
                prop_assert_eq!(&moved["spec"], &before["spec"]);
            }
        }
        let of = |index: usize| after["spec"]["roles"][index]["replicas"].as_u64().unwrap_or(1);
        prop_assert_eq!((of(p), of(d)), (u64::from(to.0), u64::from(to.1)));
        let allowed = [p, d].map(|index| format!("/spec/roles/{index}/replicas"));
        for (pointer, _) in differences(&group, &after) {
            prop_assert!(allowed.contains(&pointer), "{}", pointer);
        }
    }
}
