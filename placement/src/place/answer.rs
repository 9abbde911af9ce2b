//! Answers what-if questions on a session.

use std::collections::BTreeMap;

use super::{Session, job::Job};
use crate::{
    group::PODS_MAX,
    objective::Search,
    what_if::{SETS_MAX, WhatIf, WhatIfError},
};

impl Session<'_> {
    /// Whether `more` replicas of a group, by role, would find a place beside those that it has.
    pub fn what_if(
        &mut self,
        group: &str,
        more: &BTreeMap<String, u32>,
    ) -> Result<WhatIf, WhatIfError> {
        let index = self
            .group_named(group)
            .ok_or_else(|| WhatIfError::UnknownGroup(group.to_owned()))?;
        let Ok(job) = self.jobs[index].clone() else {
            return Err(WhatIfError::Refused(group.to_owned()));
        };
        let more = self.by_role(index, more)?;
        let placed = self.running(index);
        let now: Vec<u32> = (0..job.roles.len())
            .map(|role| job.replicas(role, &placed))
            .collect();
        let all = with_more(&job, &now, &more, 1)?;
        let mut search = Search::Exact;
        let fits = self.fits(index, &all, &mut search);
        let mut answer = WhatIf {
            fits,
            sets_at_most: self.sets_at_most(index, &job, &now, &more, fits),
            ..WhatIf::default()
        };
        let granted = if fits {
            more.clone()
        } else {
            answer.explanation = Some(self.diagnose(index, &all, search, false));
            let mut some = all.clone();
            let has_none = now.iter().all(|now| *now == 0);
            for ((rule, now), of) in some.roles.iter_mut().zip(&now).zip(&job.roles) {
                rule.least = if has_none { of.least } else { *now };
            }
            let found = self.solve(index, &some, &mut search);
            let pods = found.map(|found| found.choice.extent.pods);
            let pods = pods.unwrap_or_else(|| job.pods(|role| now[role]));
            let roles = now.iter().enumerate();
            roles
                .map(|(role, now)| job.replicas(role, &pods).saturating_sub(*now))
                .collect()
        };
        let names = self.groups[index].roles.iter().zip(granted);
        answer.granted = names
            .map(|(role, granted)| (role.name.clone(), granted))
            .collect();
        Ok(answer)
    }

    fn by_role(&self, index: usize, more: &BTreeMap<String, u32>) -> Result<Vec<u32>, WhatIfError> {
        let roles = &self.groups[index].roles;
        let unknown = more
            .keys()
            .find(|name| !roles.iter().any(|role| role.name == **name));
        if let Some(name) = unknown {
            return Err(WhatIfError::UnknownRole(name.clone()));
        }
        if more.values().all(|replicas| *replicas == 0) {
            return Err(WhatIfError::Nothing);
        }
        let of = roles.iter().map(|role| more.get(&role.name).copied());
        Ok(of.map(Option::unwrap_or_default).collect())
    }

    fn fits(&mut self, index: usize, job: &Job, search: &mut Search) -> bool {
        self.solve(index, job, search).is_some()
    }

    /// How often the whole set would fit: by halving, for fewer fit wherever more do.
    fn sets_at_most(
        &mut self,
        index: usize,
        job: &Job,
        now: &[u32],
        more: &[u32],
        fits: bool,
    ) -> u32 {
        if !fits {
            return 0;
        }
        let (mut low, mut high) = (1, SETS_MAX);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let job = with_more(job, now, more, middle);
            let fits = job.is_ok_and(|job| self.fits(index, &job, &mut Search::Exact));
            if fits {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}

/// The job of having, at least, `sets` times `more` replicas beside those there are `now`. A group
/// that has none is asked about as a whole: its least comes with the first set.
fn with_more(job: &Job, now: &[u32], more: &[u32], sets: u32) -> Result<Job, WhatIfError> {
    let mut job = job.clone();
    for ((rule, now), more) in job.roles.iter_mut().zip(now).zip(more) {
        let wanted = now.saturating_add(more.saturating_mul(sets));
        // A role of which nothing is asked stays as it is; without a replica the group is none.
        rule.desired = wanted.max(rule.least).max(1);
        rule.least = rule.desired;
    }
    for kind in &job.kinds {
        let pods = job.roles[kind.role]
            .desired
            .saturating_mul(u32::from(kind.per_replica));
        if pods > PODS_MAX {
            return Err(WhatIfError::TooMany(pods));
        }
    }
    job.most = job.least();
    Ok(job)
}
