//! Which objects are read by one query. Pure.
//!
//! Objects that differ in nothing but their names are read together, at most so many chunks in one
//! round, however many objects there are. A chunk is some namespaces, or some objects of a large
//! one. A chunk whose answer was of no use is halved for each of its objects, until the object that
//! spoils it is alone.

use std::{collections::BTreeSet, mem};

/// Most chunks of objects in a round. Each takes three queries.
pub const CHUNKS_MAX: usize = 16;

/// Most kinds of objects, by everything but their names. Each takes a chunk at least, and the rest
/// of the chunks are for large kinds.
pub const SHAPES_MAX: usize = 8;

/// Objects of a chunk before there are too many for so small ones. Of each some 650 rows of 120
/// bytes are read at once, so that a chunk is answered by some 25 MB in two large answers.
const OBJECTS: usize = 600;

/// An object to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate<'a> {
    /// Number of its kind.
    pub shape: usize,
    /// How often it was in a chunk whose answer was of no use, less those that were of use since.
    pub level: u8,
    /// Its namespace.
    pub namespace: &'a str,
}

/// Objects that are read by one query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Their numbers.
    pub objects: Vec<usize>,
    /// Whether others of a namespace are read by another query, so that these have to be named.
    pub is_named: bool,
    level: u8,
}

/// The chunks of `candidates`, which are sorted, in their order. Where there would be more than
/// `chunks_max`, those that were of no use most often and have the fewest objects are left out.
pub fn chunks(candidates: &[Candidate<'_>], chunks_max: usize) -> Vec<Chunk> {
    let shapes = candidates.chunk_by(|a, b| a.shape == b.shape).count();
    let whole = chunks_max.saturating_sub(shapes).max(1);
    let most = OBJECTS.max(candidates.len().div_ceil(whole));
    let troubled = candidates.iter().filter(|candidate| candidate.level > 0);
    let divided: BTreeSet<&str> = troubled.map(|candidate| candidate.namespace).collect();
    let mut chunks = Vec::new();
    let mut next = 0;
    for alike in candidates.chunk_by(|a, b| (a.shape, a.level) == (b.shape, b.level)) {
        let level = alike[0].level;
        let limit = most.checked_shr(level.into()).unwrap_or_default().max(1);
        let mut open = Chunk::default();
        for of_namespace in alike.chunk_by(|a, b| a.namespace == b.namespace) {
            let objects: Vec<usize> = (next..next + of_namespace.len()).collect();
            next += of_namespace.len();
            let pieces = pieces(objects.len(), limit, level);
            if pieces > 1 {
                let size = objects.len().div_ceil(pieces);
                chunks.extend(objects.chunks(size).map(|some| Chunk {
                    objects: some.to_vec(),
                    is_named: true,
                    level,
                }));
                continue;
            }
            open.level = level;
            open.is_named |= divided.contains(of_namespace[0].namespace);
            open.objects.extend(objects);
            if open.objects.len() >= limit {
                chunks.push(mem::take(&mut open));
            }
        }
        if !open.objects.is_empty() {
            chunks.push(open);
        }
    }
    without_the_most_troubled(chunks, chunks_max)
}

/// In how many pieces a namespace of so many objects is read. Untroubled ones have `limit` objects
/// or more, so that no more than the bound are made.
const fn pieces(objects: usize, limit: usize, level: u8) -> usize {
    if level == 0 {
        objects / limit
    } else {
        objects.div_ceil(limit)
    }
}

/// The level of an object at `level` after a read of its chunk. Who is alone in it is found.
pub const fn level_after(level: u8, is_troubled: bool, is_alone: bool) -> u8 {
    match (is_troubled, is_alone) {
        (true, true) => level,
        (true, false) => level.saturating_add(1),
        (false, _) => level.saturating_sub(1),
    }
}

/// At most `chunks_max` of `chunks`, in their order.
fn without_the_most_troubled(mut chunks: Vec<Chunk>, chunks_max: usize) -> Vec<Chunk> {
    while chunks.len() > chunks_max {
        let worst = chunks
            .iter()
            .enumerate()
            .min_by_key(|(_, chunk)| (u8::MAX - chunk.level, chunk.objects.len()));
        let Some((worst, _)) = worst else { break };
        chunks.remove(worst);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(namespaces: usize) -> Vec<String> {
        (0..namespaces)
            .map(|number| format!("ns-{number:05}"))
            .collect()
    }

    /// Objects in order, `each` in every namespace.
    fn candidates(names: &[String], each: usize) -> Vec<Candidate<'_>> {
        let of = |name| Candidate {
            shape: 0,
            level: 0,
            namespace: name,
        };
        names
            .iter()
            .flat_map(|name| vec![of(name.as_str()); each])
            .collect()
    }

    #[rstest::rstest]
    #[case::few(10, 1, 1)]
    #[case::a_hundred(50, 2, 1)]
    #[case::a_thousand(1_000, 1, 2)]
    #[case::ten_thousand(2_000, 5, 15)]
    #[case::ten_thousand_in_one_namespace(1, 10_000, 14)]
    #[case::a_hundred_thousand(10_000, 10, 15)]
    fn chunks_are_bounded_whatever_the_number_of_objects(
        #[case] namespaces: usize,
        #[case] each: usize,
        #[case] want: usize,
    ) {
        let names = names(namespaces);
        assert_eq!(chunks(&candidates(&names, each), CHUNKS_MAX).len(), want);
    }

    #[rstest::rstest]
    #[case::of_objects(CHUNKS_MAX, 12)]
    #[case::of_gateways(5, 16)]
    fn halving_leads_to_the_object_that_spoils_the_answer_and_lets_the_others_come_back(
        #[case] chunks_max: usize,
        #[case] rounds: usize,
    ) {
        let names = names(100);
        // By kind, level and namespace; the last is the object's own number.
        let mut objects: Vec<_> = (candidates(&names, 3).into_iter()).zip(0..).collect();
        let spoils = 137;
        let mut is_found = None;
        for round in 0..24 {
            objects.sort_unstable();
            let candidates: Vec<_> = objects.iter().map(|(candidate, _)| *candidate).collect();
            let chunks = chunks(&candidates, chunks_max);
            assert!(chunks.len() <= chunks_max);
            for chunk in &chunks {
                let has_spoilt = chunk
                    .objects
                    .iter()
                    .any(|&object| objects[object].1 == spoils);
                if has_spoilt && chunk.objects.len() == 1 {
                    is_found = is_found.or(Some(round));
                }
                let is_alone = chunk.objects.len() == 1;
                for &object in &chunk.objects {
                    let level = &mut objects[object].0.level;
                    *level = level_after(*level, has_spoilt, is_alone);
                }
            }
        }
        assert!(is_found.is_some_and(|round| round < rounds), "{is_found:?}");
        let others = objects.iter().filter(|(_, object)| *object != spoils);
        assert!(others.clone().all(|(candidate, _)| candidate.level == 0));
    }

    proptest! {
        #[test]
        fn an_object_is_in_one_chunk_at_most_and_with_its_kind(
            objects in proptest::collection::vec((0_usize..5, 0_u8..12, 0_usize..40), 0..3_000),
            chunks_max in prop_oneof![Just(CHUNKS_MAX), Just(5)],
        ) {
            let names = names(40);
            let mut objects = objects;
            objects.sort_unstable();
            let candidates: Vec<_> = objects.iter().map(|&(shape, level, namespace)| Candidate {
                shape,
                level,
                namespace: &names[namespace],
            }).collect();
            let chunks = chunks(&candidates, chunks_max);
            prop_assert!(chunks.len() <= chunks_max);
            let mut seen = vec![false; candidates.len()];
            for chunk in &chunks {
                prop_assert!(!chunk.objects.is_empty());
                for &object in &chunk.objects {
                    prop_assert!(!seen[object]);
                    seen[object] = true;
                    let first = candidates[chunk.objects[0]];
                    prop_assert_eq!(candidates[object].shape, first.shape);
                    prop_assert_eq!(candidates[object].level, first.level);
                }
            }
            if objects.iter().all(|(_, level, _)| *level == 0) {
                prop_assert!(seen.iter().all(|seen| *seen));
            }
        }
    }
}
