//! In which order owners are asked.

use crate::quorum::MAX_POSITIONS;

const _: () = assert!(
    MAX_POSITIONS == crate::placement::MAX_POSITIONS,
    "answers are counted of as many owners as a record can have"
);

/// The owners' positions, best first, handed out one by one.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnerOrder {
    positions: [u8; MAX_POSITIONS],
    next: usize,
    len: usize,
}

impl Iterator for OwnerOrder {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let position = *self.positions[..self.len].get(self.next)?;
        self.next += 1;
        Some(usize::from(position))
    }
}

impl OwnerOrder {
    /// The positions below `owners`, by `preference`: smaller ones first, and among equals as they are.
    pub(super) fn by<P: Ord + Copy>(owners: usize, preference: impl Fn(usize) -> P) -> Self {
        let mut order = Self {
            len: owners.min(MAX_POSITIONS),
            ..Self::default()
        };
        for position in 0..order.len {
            order.positions[position] = position as u8; // below MAX_POSITIONS
        }
        let preferences: [Option<P>; MAX_POSITIONS] =
            std::array::from_fn(|position| (position < order.len).then(|| preference(position)));
        order.positions[..order.len].sort_by_key(|position| preferences[usize::from(*position)]);
        order
    }

    /// The other way round.
    pub(super) fn reversed(mut self) -> Self {
        self.positions[..self.len].reverse();
        self
    }

    /// Those of which `stays` is true, none handed out yet.
    pub(super) fn only(self, stays: impl Fn(usize) -> bool) -> Self {
        let mut order = Self::default();
        for position in self.filter(|position| stays(*position)) {
            order.positions[order.len] = position as u8; // below MAX_POSITIONS
            order.len += 1;
        }
        order
    }

    /// Puts `position` at the front of those still to come, or back among them if it was handed out.
    pub(super) fn again(&mut self, position: usize) {
        if let Some(at) = self.positions[..self.len]
            .iter()
            .position(|p| usize::from(*p) == position)
        {
            if at < self.next {
                self.positions[at..self.next].rotate_left(1);
                self.next -= 1;
            } else {
                self.positions[self.next..=at].rotate_right(1);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::coordinator) fn order(positions: &[u8]) -> OwnerOrder {
        let mut order = OwnerOrder {
            len: positions.len(),
            ..OwnerOrder::default()
        };
        order.positions[..positions.len()].copy_from_slice(positions);
        order
    }

    #[test]
    fn an_owner_can_be_asked_again_next() {
        let mut order = order(&[2, 0, 1]);
        assert_eq!((order.next(), order.next()), (Some(2), Some(0)));
        order.again(2);
        assert_eq!(order.clone().collect::<Vec<_>>(), [2, 1]);
        order.again(1);
        assert_eq!(order.collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_best_come_first_and_some_can_be_left_out() {
        let latency = [9, 1, 9, 4];
        let order = OwnerOrder::by(4, |position| latency[position]);
        assert_eq!(order.clone().collect::<Vec<_>>(), [1, 3, 0, 2]);
        let some = order.clone().only(|position| position != 3);
        assert_eq!(some.collect::<Vec<_>>(), [1, 0, 2]);
        assert_eq!(order.reversed().collect::<Vec<_>>(), [2, 0, 3, 1]);
    }
}
