//! The worker that skips steps against one that takes every single one.

use proptest::prelude::*;

use super::*;
use crate::engine::request::Request;

/// A request as the test sends it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Nanos,
    input_tokens: u32,
    output_tokens: u32,
}

/// First token and end of each request, and preemptions in all.
type Lived = (Vec<(Nanos, Nanos)>, u64);

/// The events of one moment, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Change,
    KvArrives(Slot),
    Enqueue(usize),
}

/// Drives the worker as the service does.
fn skipping(sent: &[Sent], profile: &Profile) -> Lived {
    let mut requests = Requests::default();
    let mut worker = DecodeWorker::default();
    let mut calendar = BinaryHeap::new();
    let mut waits_for = None;
    let mut lived = vec![(0, 0); sent.len()];
    let (mut finished, mut admissions) = (Vec::new(), Vec::new());
    for (index, one) in sent.iter().enumerate() {
        calendar.push(Reverse((one.at, Event::Enqueue(index))));
    }
    while let Some(Reverse((now, event))) = calendar.pop() {
        let change = match event {
            Event::Change => waits_for == Some(now),
            Event::KvArrives(slot) => worker.kv_arrived(slot) && !worker.is_stepping(),
            Event::Enqueue(index) => {
                let slot = requests.insert(Request {
                    id: index as u64,
                    input_tokens: sent[index].input_tokens,
                    output_tokens: sent[index].output_tokens,
                    ..Request::default()
                });
                worker.enqueue(now, slot, &mut requests, profile, &mut admissions);
                false
            }
        };
        if change {
            worker.change_batch(now, &mut requests, profile, &mut finished, &mut admissions);
        }
        for slot in finished.drain(..) {
            let request = &requests[slot];
            lived[usize::try_from(request.id).unwrap()] = (request.first_token_at, now);
            requests.remove(slot);
        }
        for Admission { slot, delay } in admissions.drain(..) {
            calendar.push(Reverse((now + delay, Event::KvArrives(slot))));
        }
        assert!(worker.kv_blocks_at(now) <= profile.kv_capacity_blocks());
        waits_for = worker.next_event(now, profile);
        if let Some(at) = waits_for {
            calendar.push(Reverse((at, Event::Change)));
        }
    }
    assert!(worker.is_idle());
    worker.observe(Nanos::MAX / 2, &mut requests, profile);
    let tokens: u64 = sent.iter().map(|one| u64::from(one.output_tokens)).sum();
    assert_eq!(worker.metrics.generation_tokens, tokens);
    let gaps = worker.metrics.inter_token_latency.sum();
    let decoded = worker.metrics.request_decode_time.sum();
    assert!(
        (gaps - decoded).abs() < 1e-6 * decoded.max(1.0),
        "{gaps} {decoded}"
    );
    (lived, worker.metrics.preemptions)
}

/// A request of the naive worker.
#[derive(Clone, Copy, Debug)]
struct Naive {
    index: usize,
    generated: u32,
    computed: u32,
    lost: bool,
    kv_at: Nanos,
    order: u64,
}

/// The naive worker: lists, counts and one step at a time.
struct Stepper<'a> {
    sent: &'a [Sent],
    profile: &'a Profile,
    /// In parts of a nanosecond.
    time: u128,
    step_end: Option<u128>,
    waiting: VecDeque<Naive>,
    transferring: Vec<Naive>,
    arrived: Vec<Naive>,
    recomputing: VecDeque<Naive>,
    /// Tokens that the step computes of each of the first of `recomputing`.
    chunks: Vec<u32>,
    running: Vec<Naive>,
    orders: u64,
    preempted: u64,
    lived: Vec<(Nanos, Nanos)>,
}

impl Stepper<'_> {
    fn context(&self, one: &Naive) -> u64 {
        u64::from(self.sent[one.index].input_tokens) + u64::from(one.generated)
    }

    fn blocks(&self, one: &Naive, more: u64) -> u64 {
        (self.context(one) + more).div_ceil(u64::from(self.profile.kv_block_tokens))
    }

    fn reserved(&self) -> u64 {
        let all = self.transferring.iter().chain(&self.arrived);
        all.chain(&self.recomputing)
            .map(|one| self.blocks(one, 0))
            .sum()
    }

    fn used(&self, more: u64) -> u64 {
        let batch: u64 = self.running.iter().map(|one| self.blocks(one, more)).sum();
        batch + self.reserved()
    }

    fn now(&self) -> Nanos {
        u64::try_from(self.time.div_ceil(1 << 20)).unwrap()
    }

    fn admit(&mut self, now: Nanos, more: u64) {
        let capacity = self.profile.kv_capacity_blocks();
        let most = capacity - self.profile.kv_kept_free_blocks();
        while let Some(mut one) = self.waiting.front().copied() {
            let batch = self.running.len()
                + self.transferring.len()
                + self.arrived.len()
                + self.recomputing.len();
            let fits = batch < self.profile.max_batch as usize
                && self.used(more) + self.blocks(&one, 0) <= most;
            if !fits && batch > 0 {
                break;
            }
            self.waiting.pop_front();
            if one.lost {
                self.orders += 1;
                one.order = self.orders;
                self.recomputing.push_back(one);
            } else {
                let tokens = self.sent[one.index].input_tokens;
                one.kv_at = now + self.profile.kv_transfer_time(tokens);
                self.transferring.push(one);
            }
        }
    }

    /// Gives a token, and notes what the user sees of it.
    fn token(&mut self, mut one: Naive) -> Option<Naive> {
        let now = self.now();
        one.generated += 1;
        if one.generated == 1 {
            self.lived[one.index].0 = now;
        }
        if one.generated == self.sent[one.index].output_tokens {
            self.lived[one.index].1 = now;
            return None;
        }
        Some(one)
    }

    fn end_step(&mut self) {
        self.time = self.step_end.take().unwrap();
        for one in std::mem::take(&mut self.running) {
            let one = self.token(one);
            self.running.extend(one);
        }
        for tokens in std::mem::take(&mut self.chunks) {
            let mut one = self.recomputing.pop_front().unwrap();
            one.computed += tokens;
            if u64::from(one.computed) < self.context(&one) {
                self.recomputing.push_front(one);
                break;
            }
            one.lost = false;
            let one = self.token(one);
            self.running.extend(one);
        }
    }

    fn begin_step(&mut self) {
        for mut one in std::mem::take(&mut self.arrived) {
            self.orders += 1;
            one.order = self.orders;
            self.running.push(one);
        }
        let mut any = false;
        while self.used(0) > self.profile.kv_capacity_blocks() {
            let all = self.running.iter().chain(&self.recomputing);
            let youngest = all.map(|one| one.order).max().unwrap();
            let all = self.running.iter().chain(&self.recomputing).copied();
            let mut one = all.into_iter().find(|one| one.order == youngest).unwrap();
            self.running.retain(|other| other.order != youngest);
            self.recomputing.retain(|other| other.order != youngest);
            (one.lost, one.computed) = (true, 0);
            self.waiting.push_front(one);
            self.preempted += 1;
            any = true;
        }
        let nobody =
            self.running.is_empty() && self.transferring.is_empty() && self.recomputing.is_empty();
        if !any || nobody {
            self.admit(self.now(), 0);
        }
        let mut room = (self.profile.prefill_step_tokens)
            .saturating_sub(u32::try_from(self.running.len()).unwrap())
            .max(1);
        let (mut tokens, mut attended) = (0, 0);
        for one in &self.recomputing {
            let left = u32::try_from(self.context(one)).unwrap() - one.computed;
            let computed = left.min(room);
            if computed == 0 {
                break;
            }
            room -= computed;
            tokens += u64::from(computed);
            // Token by token: each attends to all before it and, by half, to itself.
            attended += (0..computed)
                .map(|i| 2 * u64::from(one.computed + i) + 1)
                .sum::<u64>();
            self.chunks.push(computed);
        }
        if self.running.is_empty() && self.chunks.is_empty() {
            return;
        }
        let context = self.running.iter().map(|one| self.context(one)).sum();
        let length = self.profile.decode_step(self.running.len(), context)
            + self.profile.recompute(tokens, attended);
        self.step_end = Some(self.time + u128::from(length));
    }

    /// Takes steps until `now`, and lets KV caches arrive, steps first.
    fn advance(&mut self, now: Nanos) {
        loop {
            let step_at = self
                .step_end
                .map(|end| u64::try_from(end.div_ceil(1 << 20)).unwrap());
            let kv_at = self.transferring.iter().map(|one| one.kv_at).min();
            if let Some(at) = step_at
                && at <= now
                && kv_at.is_none_or(|kv_at| at <= kv_at)
            {
                self.end_step();
                self.begin_step();
            } else if let Some(at) = kv_at
                && at <= now
            {
                let place = self.transferring.iter().position(|one| one.kv_at == at);
                let one = self.transferring.swap_remove(place.unwrap());
                self.arrived.push(one);
                if self.step_end.is_none() {
                    self.time = u128::from(at) << 20;
                    self.begin_step();
                }
            } else {
                return;
            }
        }
    }
}

fn stepping(sent: &[Sent], profile: &Profile) -> Lived {
    let mut stepper = Stepper {
        sent,
        profile,
        time: 0,
        step_end: None,
        waiting: VecDeque::new(),
        transferring: Vec::new(),
        arrived: Vec::new(),
        recomputing: VecDeque::new(),
        chunks: Vec::new(),
        running: Vec::new(),
        orders: 0,
        preempted: 0,
        lived: vec![(0, 0); sent.len()],
    };
    for (index, one) in sent.iter().enumerate() {
        stepper.advance(one.at);
        stepper.waiting.push_back(Naive {
            index,
            generated: 0,
            computed: 0,
            lost: false,
            kv_at: 0,
            order: 0,
        });
        let more = u64::from(stepper.step_end.is_some());
        stepper.admit(one.at, more);
    }
    stepper.advance(Nanos::MAX / 2);
    (stepper.lived, stepper.preempted)
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let one = (0..400_000_000u64, 1..900u32, 1..120u32);
    prop::collection::vec(one, 1..40).prop_map(|all| {
        let mut at = 0;
        let timed = all.into_iter().map(|(gap, input_tokens, output_tokens)| {
            at += gap * gap / 800_000_000;
            Sent {
                at,
                input_tokens,
                output_tokens,
            }
        });
        timed.collect()
    })
}

prop_compose! {
    fn profile()(
        capacity in 1_100u64..20_000,
        max_batch in 1..32u32,
        block in prop::sample::select(vec![1u32, 5, 16, 64]),
        step_tokens in 20..600u32,
        kept_free in prop::sample::select(vec![0.0, 0.01, 0.1]),
        base in 0.5..20.0f64,
        per_request in 0.0..0.3f64,
        per_megatoken in prop::sample::select(vec![0.0, 1.2, 13.4, 4_000.0]),
    ) -> Profile {
        Profile {
            kv_capacity_tokens: capacity,
            max_batch,
            kv_block_tokens: block,
            prefill_step_tokens: step_tokens,
            kv_kept_free_share: kept_free,
            decode_base_milliseconds: base,
            decode_milliseconds_per_request: per_request,
            decode_milliseconds_per_megatoken: per_megatoken,
            ..Profile::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn skipping_steps_is_equal_to_taking_them_to_the_nanosecond(sent in sent(), profile in profile()) {
        prop_assert_eq!(skipping(&sent, &profile), stepping(&sent, &profile));
    }
}

#[test]
fn a_full_cache_preempts_the_youngest_and_computes_it_again() {
    let profile = Profile {
        kv_capacity_tokens: 1_280,
        kv_kept_free_share: 0.0,
        ..Profile::default()
    };
    let one = |at| Sent {
        at,
        input_tokens: 600,
        output_tokens: 200,
    };
    let (lived, preempted) = skipping(&[one(0), one(1_000_000)], &profile);
    assert_eq!(preempted, 1);
    // The older one has the blocks; the younger goes on when it has left.
    assert!(lived[0].1 < lived[1].1 && lived[1].0 < lived[0].1);
}
