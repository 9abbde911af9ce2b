//! Steps of many prompts against a worker that spends its budget token by token.

use proptest::prelude::*;

use super::*;
use crate::time::from_milliseconds;

/// A prompt as the test sends it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Nanos,
    tokens: u32,
    cached: u32,
    /// How long after its end the KV cache is fetched.
    held: Nanos,
}

/// When each prompt was begun and complete.
type Lived = Vec<(Nanos, Nanos)>;

fn in_steps(sent: &[Sent], profile: &Profile) -> Lived {
    let mut requests = Requests::default();
    let mut worker = PrefillWorker::default();
    let mut lived = vec![(0, 0); sent.len()];
    let mut releases: Vec<(Nanos, Slot)> = Vec::new();
    let mut completed = Vec::new();
    let mut coming = sent.iter().enumerate().peekable();
    loop {
        let times = [
            worker.next_event(),
            releases.iter().map(|release| release.0).min(),
            coming.peek().map(|(_, one)| one.at),
        ];
        let Some(now) = times.into_iter().flatten().min() else {
            break;
        };
        if worker.next_event() == Some(now) {
            worker.end_step(now, &mut requests, &mut completed);
            for slot in completed.drain(..) {
                let index = usize::try_from(requests[slot].id).unwrap();
                lived[index] = (requests[slot].scheduled_at, now);
                releases.push((now + sent[index].held, slot));
            }
        } else if let Some(place) = releases.iter().position(|release| release.0 == now) {
            worker.release(releases.swap_remove(place).1, &requests, profile);
        } else if let Some((index, one)) = coming.next() {
            let slot = requests.insert(Request {
                id: index as u64,
                input_tokens: one.tokens,
                cached_tokens: one.cached,
                ..Request::default()
            });
            worker.enqueue(now, slot, &mut requests, profile);
        }
        worker.start_step(now, &mut requests, profile);
        assert!(worker.kv_blocks_used() <= profile.kv_capacity_blocks());
    }
    assert!(worker.is_idle());
    assert_eq!(worker.free_at(), 0);
    lived
}

/// Tokens of a prompt that a prefix cache has: none for two prompts of three, any share of the
/// others.
fn cached_of(tokens: u32, permille: u64) -> u32 {
    let cached = u64::from(tokens) * (3 * permille).saturating_sub(2_000) / 1_000;
    u32::try_from(cached).unwrap().min(tokens - 1)
}

/// One token of the budget at a time: it goes to the first prompt that is not complete.
fn token_by_token(sent: &[Sent], profile: &Profile) -> Lived {
    let blocks = |index: usize| sent[index].tokens.div_ceil(profile.kv_block_tokens);
    let capacity = u32::try_from(profile.kv_capacity_blocks()).unwrap();
    let mut done: Vec<u32> = sent.iter().map(|one| one.cached).collect();
    let mut lived = vec![(0, 0); sent.len()];
    let (mut now, mut next) = (0, 0);
    let mut partial: Option<usize> = None;
    while partial.is_some() || next < sent.len() {
        let held: u32 = (0..next)
            .filter(|index| lived[*index].1 == 0 || lived[*index].1 + sent[*index].held > now)
            .map(blocks)
            .sum();
        let (mut used, mut tokens, mut attended) = (held, 0, 0.0);
        let mut completing = Vec::new();
        while tokens < profile.prefill_step_tokens {
            let Some(index) = partial.take().or_else(|| {
                let fits = next < sent.len()
                    && sent[next].at <= now
                    && completing.len() < profile.prefill_step_requests as usize
                    && used + blocks(next) <= capacity;
                fits.then(|| {
                    used += blocks(next);
                    lived[next].0 = now;
                    next += 1;
                    next - 1
                })
            }) else {
                break;
            };
            tokens += 1;
            attended += f64::from(2 * done[index] + 1);
            done[index] += 1;
            if done[index] == sent[index].tokens {
                completing.push(index);
            } else {
                partial = Some(index);
            }
        }
        if tokens == 0 {
            // Nothing to do until a prompt comes or a KV cache is fetched.
            let fetched = (0..next).map(|index| lived[index].1 + sent[index].held);
            let later = fetched.chain(sent.get(next).map(|one| one.at));
            now = later.filter(|at| *at > now).min().unwrap();
            continue;
        }
        now += from_milliseconds(
            profile.prefill_base_milliseconds
                + (profile.prefill_milliseconds_per_kilotoken * f64::from(tokens) * 1e-3
                    + profile.prefill_milliseconds_per_megatoken_squared * attended * 1e-6),
        );
        for index in completing {
            lived[index].1 = now;
        }
    }
    lived
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let one = (
        0..200_000_000u64,
        1..1_500u32,
        0..1_000u64,
        1..300_000_000u64,
    );
    prop::collection::vec(one, 1..40).prop_map(|all| {
        let mut at = 0;
        let timed = all.into_iter().map(|(gap, tokens, cached, held)| {
            // Never two at one moment: the engine begins with the first of them alone, the budget
            // below with both.
            at += (gap * gap / 400_000_000).max(1);
            Sent {
                at,
                tokens,
                cached: cached_of(tokens, cached),
                held,
            }
        });
        timed.collect()
    })
}

prop_compose! {
    fn profile()(
        capacity in 1_600u64..12_000,
        block in prop::sample::select(vec![1u32, 16, 64]),
        step_tokens in 30..2_500u32,
        step_requests in 1..12u32,
        base in 0.0..20.0f64,
    ) -> Profile {
        Profile {
            kv_capacity_tokens: capacity,
            kv_block_tokens: block,
            prefill_step_tokens: step_tokens,
            prefill_step_requests: step_requests,
            prefill_base_milliseconds: base,
            ..Profile::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn steps_are_those_of_a_budget_spent_token_by_token(sent in sent(), profile in profile()) {
        prop_assert_eq!(in_steps(&sent, &profile), token_by_token(&sent, &profile));
    }
}

#[test]
fn short_prompts_share_a_step_and_long_ones_take_several() {
    let profile = Profile::default();
    let one = |at, tokens| Sent {
        at,
        tokens,
        cached: 0,
        held: 1,
    };
    // The first is alone; the two that come meanwhile share a step with the start of a long one.
    let sent = [
        one(0, 1000),
        one(1, 1000),
        one(2, 1000),
        one(3, 10_000),
        one(4, 10),
    ];
    let lived = in_steps(&sent, &profile);
    assert_eq!(lived[0].1, profile.prefill_time(1000, 0));
    assert_eq!(lived[1], lived[2]);
    assert_eq!(lived[3].0, lived[1].0);
    assert_eq!(lived[3].1, lived[4].1);
    assert_eq!(lived[4].0, lived[1].1);
}
