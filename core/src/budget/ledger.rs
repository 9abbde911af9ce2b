//! A ledger of the GPUs that services share: the GPUs that each may hold, and those that it shall
//! give back.
//!
//! A grant is durable: it is written before a replica is requested on it, and lowered only when it
//! is certain that nobody holds it or is about to. So the sum of the grants is the most that can
//! exist or be requested at any instant, whoever crashes in between. One rule keeps the sum within
//! the budget: [`settle`] raises a grant only into GPUs that no other grant covers.
//!
//! Everything else is fairness. Each account has a share: members split the budget, floors first
//! and the rest by priority, and the accounts of a member split its part evenly, so that a member
//! gets no more by having more of them. Who is short of its share may take GPUs from those above
//! theirs, as far as the terms allow it; the takings become caps, and a plan under a cap drains.
//!
//! Nothing here reads or writes. The caller keeps these rules. The grants are written, against the
//! version that they were read at, before replicas are. Grants that were only read are written once
//! more first, so that no earlier write of anybody can follow. `is_certain` is stated only after a
//! read that is no older than the last change, with no write of replicas under way.

use super::{Claim, split};

/// Terms of a shared budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// GPUs that all accounts may hold together.
    pub gpus: u32,
    /// Whether GPUs of a floor that are not wanted may be lent.
    pub borrowing: Borrowing,
    /// Who may take GPUs from whom.
    pub preemption: Preemption,
}

/// Whether GPUs of a floor that its member does not want are lent to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Borrowing {
    /// They are lent, and come back by the rules of preemption.
    #[default]
    Allowed,
    /// They stay free.
    Never,
}

/// Who gives GPUs back when somebody is short of its share. Beyond the budget everybody does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preemption {
    /// Nobody: who is short waits until others want less.
    Never,
    /// Members of lower priority; and, for a member below its floor, everybody.
    LowerPriority,
    /// Everybody above its share, those of the lowest priority first.
    #[default]
    FairShare,
}

/// A party that shares the budget, with one account for each of its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Unique among the members; decides between equals.
    pub name: &'a str,
    /// How large its part is beside the others, at least 1.
    pub priority: u32,
    /// GPUs that it gets before anybody gets more than a floor, as far as it wants them.
    pub floor_gpus: u32,
    /// Most GPUs that its accounts may hold together.
    pub most_gpus: u32,
}

/// One service, as it stands in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    /// Unique among the accounts; decides between equals.
    pub name: &'a str,
    /// Its member, as an index; nothing for one that left and still holds GPUs.
    pub member: Option<usize>,
    /// GPUs of its grant, as written.
    pub granted_gpus: u32,
    /// GPUs that exist or are requested for it, as last known.
    pub held_gpus: u32,
    /// Whether nothing more than `held_gpus` exists, is requested, or is on its way to be.
    pub is_certain: bool,
    /// GPUs of the replicas that it would have without this budget.
    pub wanted_gpus: u32,
    /// GPUs of its fewest replicas: less is of no use to it.
    pub least_gpus: u32,
    /// GPUs it grows by, at least 1.
    pub unit_gpus: u32,
    /// Whether it has been short of its share for so long that a move of GPUs pays.
    pub may_preempt: bool,
}

/// How an account stands after settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// All that it wants is granted.
    Granted,
    /// Its share is granted, and it wants more.
    Shared,
    /// Others still hold GPUs of its share.
    Waiting,
    /// It gives GPUs back.
    Returning,
    /// It is no member any more, and still holds GPUs.
    Left,
}

/// An account after settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// GPUs of its grant; to be written before any replica is requested on it.
    pub granted_gpus: u32,
    /// GPUs that its plan may hold; never more than the grant.
    pub cap_gpus: u32,
    /// Whether any replica may be added. Beyond the budget none is, not even in place of one that
    /// leaves.
    pub may_grow: bool,
    /// GPUs that are its due.
    pub share_gpus: u32,
    /// How it stands.
    pub standing: Standing,
}

impl Account<'_> {
    fn unit(&self) -> u32 {
        self.unit_gpus.max(1)
    }

    /// GPUs that nobody else may get.
    fn reserved(&self) -> u32 {
        if self.is_certain {
            self.held_gpus
        } else {
            self.granted_gpus.max(self.held_gpus)
        }
    }
}

/// The grants and caps of all `accounts`, in their order.
///
/// No grant is below the GPUs held, and none that is not certain is lowered. Grants are raised only
/// while their sum, and that of all GPUs held, stays within the budget.
pub fn settle(terms: Terms, members: &[Member<'_>], accounts: &[Account<'_>]) -> Vec<Entry> {
    let ledger = Ledger::new(terms, members, accounts);
    let (shares, idle) = ledger.shares();
    // Beyond the budget nobody keeps a grant that is not used, or grows into one.
    let all = accounts
        .iter()
        .map(|a| u64::from(a.granted_gpus.max(a.held_gpus)));
    let overcommitted = all.sum::<u64>() > u64::from(terms.gpus);
    let kept: Vec<u32> = accounts
        .iter()
        .zip(&shares)
        .map(|(account, &share)| {
            let unused = if overcommitted {
                0
            } else {
                account.granted_gpus.min(share)
            };
            account.reserved().max(unused)
        })
        .collect();
    let granted = ledger.raised(&shares, &kept, idle);
    let sum: u64 = granted.iter().copied().map(u64::from).sum();
    let may_grow = sum <= u64::from(terms.gpus);
    let taken = ledger.taken(&shares, &granted, idle);
    let entry = |index: usize| {
        let (account, share) = (&accounts[index], shares[index]);
        let (granted_gpus, take) = (granted[index], taken[index]);
        let cap_gpus = if account.held_gpus > share {
            account.held_gpus - take
        } else if may_grow {
            granted_gpus.min(share)
        } else {
            account.held_gpus
        };
        let standing = match account.member {
            None => Standing::Left,
            Some(_) if take > 0 => Standing::Returning,
            Some(_) if granted_gpus < share => Standing::Waiting,
            Some(_) if share < account.wanted_gpus => Standing::Shared,
            Some(_) => Standing::Granted,
        };
        Entry {
            granted_gpus,
            cap_gpus,
            may_grow,
            share_gpus: share,
            standing,
        }
    };
    (0..accounts.len()).map(entry).collect()
}

struct Ledger<'a> {
    terms: Terms,
    members: &'a [Member<'a>],
    accounts: &'a [Account<'a>],
    /// Accounts of each member.
    groups: Vec<Vec<usize>>,
}

impl<'a> Ledger<'a> {
    fn new(terms: Terms, members: &'a [Member<'a>], accounts: &'a [Account<'a>]) -> Self {
        let mut groups = vec![Vec::new(); members.len()];
        for (index, account) in accounts.iter().enumerate() {
            if let Some(group) = account.member.and_then(|member| groups.get_mut(member)) {
                group.push(index);
            }
        }
        Self {
            terms,
            members,
            accounts,
            groups,
        }
    }

    fn sum(&self, member: usize, of: impl Fn(usize) -> u32) -> u32 {
        let all = self.groups[member].iter().map(|&index| of(index));
        all.fold(0, u32::saturating_add)
    }

    fn unit(&self, member: usize) -> u32 {
        let units = self.groups[member].iter().map(|&i| self.accounts[i].unit());
        units.reduce(greatest_common_divisor).unwrap_or(1)
    }

    /// GPUs that a member's accounts want together, up to its most.
    fn wanted(&self, member: usize) -> u32 {
        let wanted = self.sum(member, |index| self.accounts[index].wanted_gpus);
        wanted.min(self.members[member].most_gpus)
    }

    /// The due of each account, in whole units, and the GPUs of floors that stay free. GPUs of
    /// those that left are not there to share.
    fn shares(&self) -> (Vec<u32>, u32) {
        let left = self
            .accounts
            .iter()
            .filter(|account| self.has_left(account));
        let left: u32 = left.map(Account::reserved).fold(0, u32::saturating_add);
        let claims: Vec<Claim<'_>> = (0..self.members.len())
            .map(|index| {
                let member = &self.members[index];
                let wanted = self.wanted(index);
                let claimed = match self.terms.borrowing {
                    Borrowing::Allowed => wanted,
                    Borrowing::Never => wanted.max(member.floor_gpus),
                };
                self.claim(index, claimed, member.floor_gpus)
            })
            .collect();
        let parts = split(self.terms.gpus.saturating_sub(left), &claims).granted_gpus;
        let mut shares = vec![0; self.accounts.len()];
        let mut idle: u32 = 0;
        for (index, part) in parts.into_iter().enumerate() {
            let wanted = part.min(self.wanted(index));
            idle = idle.saturating_add(part - wanted);
            self.within(index, wanted, &mut shares, |account| {
                (self.accounts[account].wanted_gpus, 0)
            });
        }
        for (share, account) in shares.iter_mut().zip(self.accounts) {
            *share -= *share % account.unit();
        }
        (shares, idle)
    }

    fn has_left(&self, account: &Account<'_>) -> bool {
        account
            .member
            .is_none_or(|member| member >= self.members.len())
    }

    fn claim(&self, member: usize, wanted_gpus: u32, floor_gpus: u32) -> Claim<'a> {
        Claim {
            name: self.members[member].name,
            priority: self.members[member].priority,
            floor_gpus,
            wanted_gpus,
            unit_gpus: self.unit(member),
        }
    }

    /// Adds `part` to the accounts of `member`, evenly. Each wants so many GPUs on top of those
    /// that it has, and its fewest replicas come first.
    fn within(
        &self,
        member: usize,
        part: u32,
        to: &mut [u32],
        wants: impl Fn(usize) -> (u32, u32),
    ) {
        let group = &self.groups[member];
        let claims: Vec<Claim<'_>> = group
            .iter()
            .map(|&index| {
                let account = &self.accounts[index];
                let (wanted_gpus, has) = wants(index);
                Claim {
                    name: account.name,
                    priority: 1,
                    floor_gpus: account.least_gpus.saturating_sub(has),
                    wanted_gpus,
                    unit_gpus: account.unit(),
                }
            })
            .collect();
        let parts = split(part, &claims).granted_gpus;
        for (&index, part) in group.iter().zip(parts) {
            to[index] += part;
        }
    }

    /// The grants: `kept`, raised towards the shares into GPUs that are free; `idle` of them stay
    /// so.
    fn raised(&self, shares: &[u32], kept: &[u32], idle: u32) -> Vec<u32> {
        let mut granted = kept.to_vec();
        let all: u64 = kept.iter().copied().map(u64::from).sum();
        let free = u64::from(self.terms.gpus).saturating_sub(all.saturating_add(idle.into()));
        let lack = |index: usize| shares[index].saturating_sub(kept[index]);
        let claim = |(index, member): (usize, &Member<'_>)| {
            let has = self.sum(index, |account| kept[account]);
            self.claim(
                index,
                self.sum(index, lack),
                member.floor_gpus.saturating_sub(has),
            )
        };
        let claims: Vec<Claim<'_>> = self.members.iter().enumerate().map(claim).collect();
        let parts = split(u32::try_from(free).unwrap_or(0), &claims).granted_gpus;
        for (index, part) in parts.into_iter().enumerate() {
            self.within(index, part, &mut granted, |account| {
                (lack(account), kept[account])
            });
        }
        granted
    }

    /// GPUs that an account of a member holds above its share.
    fn above(&self, index: usize, shares: &[u32]) -> u32 {
        let account = &self.accounts[index];
        let above = account.held_gpus.saturating_sub(shares[index]);
        if self.has_left(account) { 0 } else { above }
    }

    /// Accounts above their share, in the order in which they give.
    fn givers(&self, shares: &[u32]) -> Vec<usize> {
        let above = |index: usize| self.above(index, shares);
        let mut givers: Vec<usize> = (0..self.accounts.len()).filter(|&i| above(i) > 0).collect();
        givers.sort_by(|&a, &b| {
            let by_name = || self.accounts[a].name.cmp(self.accounts[b].name);
            let by_priority = self.priority(a).cmp(&self.priority(b));
            by_priority
                .then_with(|| above(b).cmp(&above(a)))
                .then_with(by_name)
        });
        givers
    }

    /// GPUs that each account shall give back: those beyond the budget or a member's most, and
    /// those that somebody who is short may take. `idle` GPUs of the budget are to stay free.
    fn taken(&self, shares: &[u32], granted: &[u32], idle: u32) -> Vec<u32> {
        let givers = self.givers(shares);
        let mut taken = vec![0; self.accounts.len()];
        let mut take = |giver: usize, open: u32| {
            let taking = (self.above(giver, shares) - taken[giver]).min(open);
            taken[giver] += taking;
            open - taking
        };
        let mut excess = self.excess(idle);
        for &giver in &givers {
            excess = take(giver, excess);
        }
        for (index, member) in self.members.iter().enumerate() {
            let held = self.sum(index, |account| self.accounts[account].held_gpus);
            let mut excess = held.saturating_sub(member.most_gpus);
            for &giver in givers
                .iter()
                .filter(|&&i| self.accounts[i].member == Some(index))
            {
                excess = take(giver, excess);
            }
        }
        // Grants above a share that are not used come back without anybody giving.
        let unused = (0..self.accounts.len()).map(|index| {
            let kept = self.accounts[index].held_gpus.max(shares[index]);
            granted[index].saturating_sub(kept)
        });
        let mut coming: u32 = unused.fold(0, u32::saturating_add);
        for taker in self.takers(shares, granted) {
            let lack = shares[taker] - granted[taker];
            let mut open = lack - lack.min(coming);
            coming -= lack.min(coming);
            for &giver in &givers {
                if self.may_take(taker, giver, granted) {
                    open = take(giver, open);
                }
            }
        }
        taken
    }

    /// GPUs held beyond the budget without those that stay free; of those that left, all that
    /// nobody else may get.
    fn excess(&self, idle: u32) -> u32 {
        let held = |account: &Account<'_>| {
            u64::from(if self.has_left(account) {
                account.reserved()
            } else {
                account.held_gpus
            })
        };
        let held: u64 = self.accounts.iter().map(held).sum();
        let excess = held.saturating_sub(self.terms.gpus.saturating_sub(idle).into());
        u32::try_from(excess).unwrap_or(u32::MAX)
    }

    /// Accounts that are short of their share for long enough, those of the highest priority first.
    fn takers(&self, shares: &[u32], granted: &[u32]) -> Vec<usize> {
        let lack = |index: usize| shares[index].saturating_sub(granted[index]);
        let mut takers: Vec<usize> = (0..self.accounts.len())
            .filter(|&index| lack(index) > 0 && self.accounts[index].may_preempt)
            .collect();
        takers.sort_by(|&a, &b| {
            let by_priority = self.priority(b).cmp(&self.priority(a));
            let by_name = || self.accounts[a].name.cmp(self.accounts[b].name);
            by_priority
                .then_with(|| lack(b).cmp(&lack(a)))
                .then_with(by_name)
        });
        takers
    }

    fn may_take(&self, taker: usize, giver: usize, granted: &[u32]) -> bool {
        let member = |account: usize| self.accounts[account].member;
        match self.terms.preemption {
            Preemption::Never => false,
            Preemption::FairShare => true,
            Preemption::LowerPriority => {
                let below_floor = member(taker).is_some_and(|index| {
                    self.sum(index, |account| granted[account]) < self.members[index].floor_gpus
                });
                member(taker) == member(giver)
                    || below_floor
                    || self.priority(giver) < self.priority(taker)
            }
        }
    }

    fn priority(&self, account: usize) -> u32 {
        let member = self.accounts[account].member;
        member
            .and_then(|member| self.members.get(member))
            .map_or(0, |member| member.priority.max(1))
    }
}

/// The greatest number that both are multiples of; 0 of two zeros.
pub fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Whether an account that has been short since `short_since` may take GPUs from others at `now`,
/// where its replicas take `lead` to serve.
///
/// GPUs on the move serve nobody: they drain at one service and start at the other. To move them at
/// once is wrong when the shortage ends before they serve, and never to move them is wrong when it
/// lasts. To wait for as long as the move costs, and then to move, is the rule for renting or
/// buying skis: it never loses more than twice what the best plan made afterwards would have. It is
/// also why GPUs cannot go to and fro faster than they can serve.
pub fn may_preempt(
    short_since: Option<crate::Timestamp>,
    now: crate::Timestamp,
    lead: std::time::Duration,
) -> bool {
    short_since.is_some_and(|since| now.since(since) >= lead)
}

#[cfg(test)]
mod tests;
