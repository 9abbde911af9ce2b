//! The placement group that a role's pods are in, as their labels say.

use std::collections::BTreeMap;

use pd_api::v1alpha1::placement_group::{GROUP_LABEL, ROLE_LABEL};
use pd_core::Role;

/// The place of a role in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The group, in the namespace of the pods.
    pub group: String,
    /// Its role there; where no label says it, by the name of ours.
    pub role: String,
}

impl Member {
    /// Reads the labels of all pods of `side`. Nothing where they do not agree, such as in a
    /// rollout to another group.
    pub fn of<'a>(
        side: Role,
        mut pods: impl Iterator<Item = &'a BTreeMap<String, String>>,
    ) -> Option<Self> {
        let read = |labels: &BTreeMap<String, String>| {
            let group = labels.get(GROUP_LABEL).filter(|group| !group.is_empty())?;
            let role = labels.get(ROLE_LABEL).cloned();
            Some(Self {
                group: group.clone(),
                role: role.unwrap_or_else(|| side.as_str().to_owned()),
            })
        };
        let first = read(pods.next()?)?;
        let agree = pods.all(|labels| read(labels).as_ref() == Some(&first));
        agree.then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(vec![], None)]
    #[case::without_labels(vec![vec![]], None)]
    #[case::empty(vec![vec![(GROUP_LABEL, "")]], None)]
    #[case::group_alone(vec![vec![(GROUP_LABEL, "g")]], Some(("g", "decode")))]
    #[case::both(vec![vec![(GROUP_LABEL, "g"), (ROLE_LABEL, "d")]; 2], Some(("g", "d")))]
    #[case::two_groups(vec![vec![(GROUP_LABEL, "g")], vec![(GROUP_LABEL, "h")]], None)]
    #[case::one_without(vec![vec![(GROUP_LABEL, "g")], vec![]], None)]
    fn the_labels_of_all_pods_say_it(
        #[case] pods: Vec<Vec<(&str, &str)>>,
        #[case] expected: Option<(&str, &str)>,
    ) {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let pods: Vec<BTreeMap<String, String>> = pods
            .into_iter()
            .map(|labels| labels.into_iter().map(owned).collect())
            .collect();
        let found = Member::of(Role::Decode, pods.iter());
        let expected = expected.map(|(group, role)| Member {
            group: group.to_owned(),
            role: role.to_owned(),
        });
        assert_eq!(found, expected);
    }
}
