//! Version vectors: a set of dots, for each actor all up to a counter.
//!
//! Invariants: sorted by actor, one entry an actor, every counter at least 1. So equal sets are equal values.

use std::cmp::Ordering;

use super::{Actor, Dot};

/// How one version vector stands to another.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Causality {
    /// Both cover the same dots.
    Identical,
    /// The other covers all of this one's dots, and more.
    Before,
    /// This one covers all of the other's dots, and more.
    After,
    /// Each covers a dot that the other doesn't.
    Concurrent,
}

/// What was seen of each actor: all its dots up to a counter.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct VersionVector {
    entries: Vec<(Actor, u64)>,
}

impl VersionVector {
    /// The greatest counter seen of `actor`, 0 when none was.
    pub fn get(&self, actor: Actor) -> u64 {
        self.find(actor).map_or(0, |at| self.entries[at].1)
    }

    /// Whether `dot` was seen.
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.counter
    }

    /// Whether this covers all that `other` covers (equal vectors do).
    pub fn descends(&self, other: &VersionVector) -> bool {
        matches!(self.compare(other), Causality::Identical | Causality::After)
    }

    /// How this vector stands to `other`.
    pub fn compare(&self, other: &VersionVector) -> Causality {
        let (mut ours_more, mut theirs_more) = (false, false);
        let (mut ours, mut theirs) = (self.entries.as_slice(), other.entries.as_slice());
        loop {
            match (ours, theirs) {
                ([], []) => break,
                ([], _) => {
                    theirs_more = true;
                    break;
                }
                (_, []) => {
                    ours_more = true;
                    break;
                }
                ([(a, n), ours_rest @ ..], [(b, m), theirs_rest @ ..]) => match a.cmp(b) {
                    Ordering::Less => {
                        ours_more = true;
                        ours = ours_rest;
                    }
                    Ordering::Greater => {
                        theirs_more = true;
                        theirs = theirs_rest;
                    }
                    Ordering::Equal => {
                        ours_more |= n > m;
                        theirs_more |= n < m;
                        (ours, theirs) = (ours_rest, theirs_rest);
                    }
                },
            }
        }
        match (ours_more, theirs_more) {
            (false, false) => Causality::Identical,
            (false, true) => Causality::Before,
            (true, false) => Causality::After,
            (true, true) => Causality::Concurrent,
        }
    }

    /// Adds all that `other` covers: the pointwise maximum.
    pub fn merge(&mut self, other: &VersionVector) {
        let mut at = 0;
        let mut unknown = 0;
        for &(actor, counter) in &other.entries {
            while self.entries.get(at).is_some_and(|entry| entry.0 < actor) {
                at += 1;
            }
            match self.entries.get_mut(at) {
                Some(entry) if entry.0 == actor => entry.1 = entry.1.max(counter),
                _ => unknown += 1,
            }
        }
        if unknown > 0 {
            let known = std::mem::take(&mut self.entries);
            self.entries.reserve_exact(known.len() + unknown);
            self.entries.extend(known.iter().chain(&other.entries));
            self.entries.sort_by_key(|&(actor, _)| actor); // stable: ours, already raised, comes first
            self.entries.dedup_by_key(|&mut (actor, _)| actor);
        }
    }

    /// The next dot of `actor` after those seen, now seen too.
    ///
    /// A counter at its end stays there rather than wrap round; whoever gives dots must not let it come to that.
    pub fn increment(&mut self, actor: Actor) -> Dot {
        let counter = self.get(actor).saturating_add(1);
        let dot = Dot { actor, counter };
        self.advance(dot);
        dot
    }

    /// Sees `dot`, and with it every earlier one of its actor.
    pub fn advance(&mut self, dot: Dot) {
        match self.find(dot.actor) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.max(dot.counter),
            Err(at) if dot.counter > 0 => self.entries.insert(at, (dot.actor, dot.counter)),
            Err(_) => {}
        }
    }

    /// The greatest counter of any actor, 0 when there is none.
    pub fn max_timestamp(&self) -> u64 {
        self.entries
            .iter()
            .map(|&(_, counter)| counter)
            .max()
            .unwrap_or(0)
    }

    /// The entries in the order of their actors.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Actor, u64)> + Clone + '_ {
        self.entries.iter().copied()
    }

    /// How many actors it names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries as they are stored.
    pub(super) fn entries(&self) -> &[(Actor, u64)] {
        &self.entries
    }

    /// Takes entries that the caller found to be sorted, unique and positive.
    pub(super) fn from_sorted(entries: Vec<(Actor, u64)>) -> VersionVector {
        debug_assert!(
            entries.is_sorted_by(|(a, _), (b, _)| a < b) && entries.iter().all(|&(_, n)| n > 0)
        );
        VersionVector { entries }
    }

    /// Where `actor` is, or would be.
    pub(super) fn find(&self, actor: Actor) -> Result<usize, usize> {
        self.entries
            .binary_search_by_key(&actor, |&(actor, _)| actor)
    }
}

/// Any order, repetitions (the greatest counts) and zeros (nothing was seen) are fine.
impl FromIterator<(Actor, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (Actor, u64)>>(entries: I) -> VersionVector {
        let mut entries: Vec<_> = entries
            .into_iter()
            .filter(|&(_, counter)| counter > 0)
            .collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        entries.dedup_by_key(|&mut (actor, _)| actor);
        VersionVector { entries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector<const N: usize>(entries: [(u64, u64); N]) -> VersionVector {
        entries
            .into_iter()
            .map(|(actor, counter)| (Actor(actor), counter))
            .collect()
    }

    #[test]
    fn compares_as_sets_of_dots() {
        let cases = [
            (vector([]), vector([]), Causality::Identical),
            (vector([(1, 1)]), vector([(1, 1)]), Causality::Identical),
            (vector([]), vector([(1, 1)]), Causality::Before),
            (
                vector([(1, 1)]),
                vector([(1, 2), (2, 1)]),
                Causality::Before,
            ),
            (vector([(1, 2), (2, 1)]), vector([(2, 1)]), Causality::After),
            (vector([(1, 1)]), vector([(2, 1)]), Causality::Concurrent),
            (
                vector([(1, 2), (2, 1)]),
                vector([(1, 1), (2, 2)]),
                Causality::Concurrent,
            ),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.compare(&b), expected, "{a:?} to {b:?}");
        }
    }

    #[test]
    fn increment_gives_the_next_dot() {
        let mut seen = vector([(1, 4)]);
        assert_eq!(
            seen.increment(Actor(1)),
            Dot {
                actor: Actor(1),
                counter: 5
            }
        );
        assert_eq!(
            seen.increment(Actor(2)),
            Dot {
                actor: Actor(2),
                counter: 1
            }
        );
        assert_eq!(seen, vector([(1, 5), (2, 1)]));
    }

    #[test]
    fn a_counter_at_its_end_does_not_wrap() {
        let mut seen = vector([(1, u64::MAX)]);
        assert_eq!(seen.increment(Actor(1)).counter, u64::MAX);
        assert_eq!(seen, vector([(1, u64::MAX)]));
    }

    #[test]
    fn merge_is_the_pointwise_maximum() {
        let mut seen = vector([(1, 4), (3, 1)]);
        seen.merge(&vector([(1, 2), (2, 9), (3, 3)]));
        assert_eq!(seen, vector([(1, 4), (2, 9), (3, 3)]));
        assert_eq!(seen.max_timestamp(), 9);
    }

    #[test]
    fn collects_in_any_order_without_zeros() {
        assert_eq!(
            vector([(2, 1), (1, 3), (3, 0), (1, 5), (1, 4)]),
            vector([(1, 5), (2, 1)])
        );
        assert!(vector([(1, 0)]).is_empty());
        let mut seen = vector([]);
        seen.advance(Dot {
            actor: Actor(1),
            counter: 0,
        });
        assert!(seen.is_empty());
    }
}
