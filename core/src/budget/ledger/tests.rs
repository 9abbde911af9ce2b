//! A ledger: examples to read, and the laws.

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::Timestamp;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn terms(gpus: u32, preemption: Preemption) -> Terms {
    Terms {
        gpus,
        borrowing: Borrowing::Allowed,
        preemption,
    }
}

fn member(name: &str, priority: u32, floor_gpus: u32) -> Member<'_> {
    Member {
        name,
        priority,
        floor_gpus,
        most_gpus: u32::MAX,
    }
}

/// Everything granted is held, and known to be.
fn account(name: &str, member: usize, held_gpus: u32, wanted_gpus: u32) -> Account<'_> {
    Account {
        name,
        member: Some(member),
        granted_gpus: held_gpus,
        held_gpus,
        is_certain: true,
        wanted_gpus,
        least_gpus: 0,
        unit_gpus: 1,
        may_preempt: true,
    }
}

/// Grants and caps.
fn settled(terms: Terms, members: &[Member<'_>], accounts: &[Account<'_>]) -> Vec<(u32, u32)> {
    let entries = settle(terms, members, accounts);
    entries
        .iter()
        .map(|entry| (entry.granted_gpus, entry.cap_gpus))
        .collect()
}

#[rstest]
#[case::never(Preemption::Never, &[(10, 10), (6, 6)])]
#[case::lower_priority(Preemption::LowerPriority, &[(10, 4), (6, 6)])]
#[case::fair_share(Preemption::FairShare, &[(10, 4), (6, 6)])]
fn who_is_short_takes_from_those_above_their_share(
    #[case] preemption: Preemption,
    #[case] want: &[(u32, u32)],
) {
    // Of 16 GPUs priority 3 is due 12, and holds 6.
    let members = [member("a", 1, 0), member("b", 3, 0)];
    let accounts = [account("a", 0, 10, 99), account("b", 1, 6, 99)];
    assert_eq!(
        settled(terms(16, preemption), &members, &accounts),
        want,
        "the grant stays until the GPUs are gone, the cap drains"
    );
}

#[test]
fn equals_take_from_each_other_by_fair_share_alone() {
    let members = [member("a", 1, 0), member("b", 1, 0)];
    let accounts = [account("a", 0, 10, 99), account("b", 1, 6, 99)];
    let caps = |preemption| settled(terms(16, preemption), &members, &accounts)[0].1;
    assert_eq!(caps(Preemption::LowerPriority), 10);
    assert_eq!(caps(Preemption::FairShare), 8);
}

#[test]
fn a_floor_comes_back_from_a_higher_priority() {
    let members = [member("a", 9, 0), member("b", 1, 4)];
    let accounts = [account("a", 0, 16, 99), account("b", 1, 0, 99)];
    let policy = terms(16, Preemption::LowerPriority);
    let entries = settle(policy, &members, &accounts);
    assert_eq!(entries[1].share_gpus, 4);
    assert_eq!(entries[0].cap_gpus, 12);
    assert_eq!(entries[1].standing, Standing::Waiting);
    assert_eq!(entries[0].standing, Standing::Returning);
}

#[test]
fn a_floor_that_is_not_lent_stays_free() {
    let policy = Terms {
        borrowing: Borrowing::Never,
        ..terms(16, Preemption::Never)
    };
    let members = [member("a", 1, 0), member("b", 1, 4)];
    let accounts = [account("a", 0, 8, 99), account("b", 1, 0, 0)];
    assert_eq!(settled(policy, &members, &accounts), [(12, 12), (0, 0)]);
    let accounts = [account("a", 0, 12, 99), account("b", 1, 0, 3)];
    assert_eq!(settled(policy, &members, &accounts), [(12, 12), (3, 3)]);
}

#[test]
fn a_lowered_budget_drains_the_lowest_priority_first() {
    let members = [member("a", 8, 0), member("b", 4, 0), member("c", 1, 2)];
    let accounts = [
        account("a", 0, 8, 8),
        account("b", 1, 8, 8),
        account("c", 2, 8, 8),
    ];
    // 20 of 24: c alone gives. 14: c gives all above its share, b the rest.
    let caps = |gpus| {
        let all = settled(terms(gpus, Preemption::Never), &members, &accounts);
        all.iter().map(|entry| entry.1).collect::<Vec<_>>()
    };
    assert_eq!(caps(20), [8, 8, 4]);
    assert_eq!(caps(14)[0], 8);
    assert_eq!(caps(14)[2], 2);
    assert_eq!(caps(14).iter().sum::<u32>(), 14);
}

#[test]
fn more_services_get_a_member_no_more() {
    let members = [member("a", 1, 0), member("b", 1, 0)];
    let accounts = [
        account("a", 0, 0, 99),
        account("b1", 1, 0, 99),
        account("b2", 1, 0, 99),
        account("b3", 1, 0, 99),
    ];
    let policy = terms(24, Preemption::FairShare);
    assert_eq!(
        settled(policy, &members, &accounts),
        [(12, 12), (4, 4), (4, 4), (4, 4)]
    );
}

#[test]
fn a_member_gets_no_more_than_its_most() {
    let few = Member {
        most_gpus: 5,
        ..member("a", 9, 0)
    };
    let members = [few, member("b", 1, 0)];
    let accounts = [account("a", 0, 0, 99), account("b", 1, 0, 99)];
    let policy = terms(16, Preemption::FairShare);
    assert_eq!(settled(policy, &members, &accounts), [(5, 5), (11, 11)]);
}

#[test]
fn a_member_above_its_most_gives_though_nobody_is_short() {
    let few = Member {
        most_gpus: 5,
        ..member("a", 9, 0)
    };
    let members = [few, member("b", 1, 0)];
    let accounts = [account("a", 0, 8, 99), account("b", 1, 0, 0)];
    let policy = terms(16, Preemption::Never);
    assert_eq!(settled(policy, &members, &accounts), [(8, 5), (0, 0)]);
}

#[test]
fn who_left_keeps_what_it_holds_and_the_others_share_the_rest() {
    let left = Account {
        member: None,
        wanted_gpus: 0,
        ..account("a", 0, 6, 0)
    };
    let members = [member("b", 1, 0), member("c", 1, 0)];
    let accounts = [left, account("b", 0, 0, 99), account("c", 1, 0, 99)];
    let entries = settle(terms(16, Preemption::FairShare), &members, &accounts);
    let granted: Vec<_> = entries.iter().map(|entry| entry.granted_gpus).collect();
    assert_eq!(granted, [6, 5, 5]);
    assert_eq!(entries[0].standing, Standing::Left);
}

#[test]
fn a_short_shortage_moves_nothing() {
    let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
    let lead = Duration::from_mins(2);
    assert!(!may_preempt(None, at(500), lead));
    assert!(!may_preempt(Some(at(0)), at(119), lead));
    assert!(may_preempt(Some(at(0)), at(120), lead));
    assert!(!may_preempt(Some(at(900)), at(0), lead), "a clock set back");
}

prop_compose! {
    fn any_ledger()(
        gpus in 0u32..80,
        borrowing in prop::sample::select(&[Borrowing::Allowed, Borrowing::Never]),
        preemption in prop::sample::select(&[
            Preemption::Never, Preemption::LowerPriority, Preemption::FairShare,
        ]),
        members in prop::collection::vec((0u32..5, 0u32..12, 0u32..60), 0..4),
        accounts in prop::collection::vec(
            (0usize..5, 0u32..20, 0u32..20, any::<bool>(), 0u32..30, 0u32..4, 0u32..5, any::<bool>()),
            0..6,
        ),
    ) -> (Terms, Vec<Member<'static>>, Vec<Account<'static>>) {
        let members: Vec<_> = members.into_iter().zip(NAMES).map(
            |((priority, floor_gpus, most_gpus), name)| Member {
                name, priority, floor_gpus: floor_gpus.min(most_gpus), most_gpus,
            },
        ).collect();
        let accounts = accounts.into_iter().zip(NAMES).map(|(drawn, name)| {
            let (member, granted, held, is_certain, wanted, least, unit_gpus, may_preempt) = drawn;
            Account {
                name,
                member: Some(member).filter(|&member| member < members.len()),
                granted_gpus: granted,
                held_gpus: held,
                is_certain,
                wanted_gpus: wanted * unit_gpus.max(1),
                least_gpus: least * unit_gpus,
                unit_gpus,
                may_preempt,
            }
        }).collect();
        (Terms { gpus, borrowing, preemption }, members, accounts)
    }
}

/// The same ledger with a budget, and members' most, that all that is held is within.
fn roomy(
    terms: Terms,
    members: &[Member<'static>],
    accounts: &[Account<'_>],
) -> (Terms, Vec<Member<'static>>) {
    let of = |index: usize| -> u32 {
        let own = accounts
            .iter()
            .filter(|account| account.member == Some(index));
        own.map(|account| account.held_gpus).sum()
    };
    let left = accounts.iter().filter(|account| account.member.is_none());
    let left: u32 = left.map(Account::reserved).sum();
    // Floors that are not lent stay free.
    let idle = match terms.borrowing {
        Borrowing::Allowed => 0,
        Borrowing::Never => members.iter().map(|member| member.floor_gpus).sum(),
    };
    let held: u32 = (0..members.len()).map(of).sum();
    let gpus = terms.gpus.max(held + left + idle);
    let members = members.iter().enumerate().map(|(index, member)| Member {
        most_gpus: member.most_gpus.max(of(index)),
        ..*member
    });
    (Terms { gpus, ..terms }, members.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn grants_cover_all_that_is_held_and_are_raised_within_the_budget_alone(
        (terms, members, accounts) in any_ledger(),
    ) {
        let entries = settle(terms, &members, &accounts);
        let sum: u32 = entries.iter().map(|entry| entry.granted_gpus).sum();
        let mut raised = false;
        for (account, entry) in accounts.iter().zip(&entries) {
            let reserved = account.reserved();
            prop_assert!(entry.granted_gpus >= reserved);
            raised |= entry.granted_gpus > account.granted_gpus.max(account.held_gpus);
            prop_assert!(entry.cap_gpus <= entry.granted_gpus);
            prop_assert!(entry.share_gpus <= account.wanted_gpus);
            prop_assert!(entry.granted_gpus <= reserved.max(entry.share_gpus).max(account.granted_gpus));
        }
        prop_assert!(!raised || sum <= terms.gpus, "{sum} of {}", terms.gpus);
    }

    #[test]
    fn caps_bring_everything_into_the_budget(
        (terms, members, accounts) in any_ledger(),
    ) {
        let entries = settle(terms, &members, &accounts);
        let left: u32 = accounts.iter().filter(|a| a.member.is_none()).map(Account::reserved).sum();
        let held = |account: &Account<'_>, entry: &Entry| entry.cap_gpus.min(account.held_gpus);
        let members_hold: u32 = accounts.iter().zip(&entries)
            .filter(|(account, _)| account.member.is_some())
            .map(|(account, entry)| held(account, entry))
            .sum();
        prop_assert!(members_hold <= terms.gpus.saturating_sub(left));
    }

    #[test]
    fn nobody_at_or_below_its_share_gives(
        (terms, members, accounts) in any_ledger(),
    ) {
        for (account, entry) in accounts.iter().zip(settle(terms, &members, &accounts)) {
            if account.member.is_some() {
                prop_assert!(entry.cap_gpus >= account.held_gpus.min(entry.share_gpus));
            }
        }
    }

    #[test]
    fn without_preemption_or_excess_nobody_gives(
        (terms, members, accounts) in any_ledger(),
    ) {
        let terms = Terms { preemption: Preemption::Never, ..terms };
        let (terms, members) = roomy(terms, &members, &accounts);
        for (account, entry) in accounts.iter().zip(settle(terms, &members, &accounts)) {
            prop_assert!(account.member.is_none() || entry.cap_gpus >= account.held_gpus);
        }
    }

    #[test]
    fn nothing_moves_for_a_shortage_that_is_new((terms, members, accounts) in any_ledger()) {
        let accounts: Vec<_> = accounts.into_iter()
            .map(|account| Account { may_preempt: false, ..account })
            .collect();
        let (terms, members) = roomy(terms, &members, &accounts);
        for (account, entry) in accounts.iter().zip(settle(terms, &members, &accounts)) {
            prop_assert!(account.member.is_none() || entry.cap_gpus >= account.held_gpus);
        }
    }

    /// With services that drain when they shall, everybody reaches its share within the budget, and
    /// then nothing moves any more.
    #[test]
    fn everybody_reaches_its_share_and_stays((terms, members, accounts) in any_ledger()) {
        let terms = Terms { preemption: Preemption::FairShare, ..terms };
        let mut accounts: Vec<_> = accounts.into_iter()
            .map(|account| Account { may_preempt: true, is_certain: true, ..account })
            .collect();
        let mut entries = Vec::new();
        for _ in 0..100 {
            let before = accounts.clone();
            entries = settle(terms, &members, &accounts);
            for (account, entry) in accounts.iter_mut().zip(&entries) {
                account.granted_gpus = entry.granted_gpus;
                if account.member.is_some() {
                    let wanted = account.wanted_gpus.min(entry.cap_gpus);
                    account.held_gpus = wanted - wanted % account.unit_gpus.max(1);
                }
            }
            if accounts == before {
                break;
            }
        }
        let own = || accounts.iter().zip(&entries).filter(|(account, _)| account.member.is_some());
        for (account, entry) in own() {
            // More than a share is held only of GPUs that no other share has: shares are whole
            // units.
            prop_assert!(account.held_gpus >= entry.share_gpus, "{:?} {:?}", account, entry);
        }
        let held: u32 = own().map(|(account, _)| account.held_gpus).sum();
        let left = accounts.iter().filter(|account| account.member.is_none());
        let left: u32 = left.map(Account::reserved).sum();
        prop_assert!(held <= terms.gpus.saturating_sub(left));
        for (index, member) in members.iter().enumerate() {
            let own = own().filter(|(account, _)| account.member == Some(index));
            let held: u32 = own.map(|(account, _)| account.held_gpus).sum();
            prop_assert!(held <= member.most_gpus);
        }
    }

    #[test]
    fn the_order_of_accounts_does_not_matter((terms, members, accounts) in any_ledger()) {
        let by_name = |accounts: &[Account<'static>]| {
            let entries = settle(terms, &members, accounts);
            let mut all: Vec<_> = accounts.iter().map(|a| a.name).zip(entries).collect();
            all.sort_unstable_by_key(|(name, _)| *name);
            all
        };
        let reversed: Vec<_> = accounts.iter().rev().copied().collect();
        prop_assert_eq!(by_name(&accounts), by_name(&reversed));
    }

    #[test]
    fn no_ledger_panics(
        gpus in any::<u32>(),
        numbers in prop::collection::vec(any::<(u32, u32, u32, u32, u32)>(), 0..5),
    ) {
        let members = [
            Member { name: "a", priority: u32::MAX, floor_gpus: u32::MAX, most_gpus: u32::MAX },
            member("b", 0, 1),
        ];
        let accounts: Vec<_> = numbers.into_iter().zip(NAMES).enumerate().map(
            |(index, ((granted_gpus, held_gpus, wanted_gpus, least_gpus, unit_gpus), name))| Account {
                name, member: Some(index), granted_gpus, held_gpus, is_certain: index % 2 == 0,
                wanted_gpus, least_gpus, unit_gpus, may_preempt: true,
            },
        ).collect();
        for borrowing in [Borrowing::Allowed, Borrowing::Never] {
            let terms = Terms { gpus, borrowing, preemption: Preemption::FairShare };
            prop_assert_eq!(settle(terms, &members, &accounts).len(), accounts.len());
        }
    }
}
