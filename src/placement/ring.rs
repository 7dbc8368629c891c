//! The ring: the virtual nodes of the nodes placed on it in the order of their tokens, and the walk around it.
//!
//! The walk goes backwards. Standing at ring position i, the first `width` distinct nodes met clockwise are the
//! node at i followed by what was met from i+1 on, less that node: one move to the front of a short list. So all
//! preference lists together cost one pass, however unequal the nodes' weights are.
//!
//! Where nodes are in zones, the next owner is the first node met of those whose zone has the fewest owners so far. So
//! the first owners, however many, lie in as many zones as there are, as evenly as can be.

use std::collections::BTreeMap;

use super::{Node, PartitionId, Token};

/// The longest preference list kept, and so the greatest replication factor.
pub const MAX_OWNERS: usize = 10;

/// The sorted virtual nodes; a node is its index in the list that the ring was made of.
pub(super) struct Ring {
    places: Vec<(Token, u16)>,
    /// How many nodes are on it.
    nodes: usize,
    /// By the index of a node, its zone's number; empty when all nodes are in one.
    zones: Vec<u16>,
}

impl Ring {
    /// Places those nodes that `is_placed` says. Equal tokens are ordered by index, that is, by node id.
    pub(super) fn new(nodes: &[Node], is_placed: impl Fn(&Node) -> bool) -> Self {
        let placed = (0u16..).zip(nodes).filter(|(_, node)| is_placed(node));
        let mut places: Vec<(Token, u16)> = placed
            .clone()
            .flat_map(|(index, node)| {
                (0..node.virtual_nodes)
                    .map(move |place| (Token::of_virtual_node(node.seat(), place), index))
            })
            .collect();
        places.sort_unstable();
        let mut numbers: BTreeMap<Option<&str>, u16> = BTreeMap::new();
        for (_, node) in placed.clone() {
            let next = numbers.len() as u16; // no more than nodes, which have indices of sixteen bits
            numbers.entry(node.zone.as_deref()).or_insert(next);
        }
        let zone_of = |node: &Node| numbers.get(&node.zone.as_deref()).copied();
        let zones = nodes.iter().map(|node| zone_of(node).unwrap_or_default());
        Self {
            places,
            nodes: placed.count(),
            zones: match numbers.len() > 1 {
                true => zones.collect(),
                false => Vec::new(),
            },
        }
    }

    /// The first owners of each partition, all partitions end to end: as many as there are nodes, at most `width_max`.
    /// Returns that number, too.
    pub(super) fn preference_lists(&self, partitions: u32, width_max: usize) -> (usize, Vec<u16>) {
        let width = self.nodes.min(width_max);
        // Who comes first of each zone may be far along the ring.
        let met_max = if self.zones.is_empty() {
            width
        } else {
            self.nodes
        };
        let mut met = Vec::with_capacity(met_max + 1);
        // Once around, so that the walk proper begins with what lies beyond the last token.
        for &(_, node) in self.places.iter().rev() {
            meet(&mut met, node, met_max);
        }
        let mut lists = vec![0; partitions as usize * width];
        let mut ahead = self.places.iter().rev().peekable();
        for partition in (0..partitions).rev() {
            let start = PartitionId(partition as u16).start(partitions);
            while let Some(&(_, node)) = ahead.next_if(|(token, _)| *token >= start) {
                meet(&mut met, node, met_max);
            }
            let first = partition as usize * width;
            self.choose(&met, &mut lists[first..first + width]);
        }
        (width, lists)
    }

    /// Fills `owners` with nodes of those met.
    fn choose(&self, met: &[u16], owners: &mut [u16]) {
        if self.zones.is_empty() {
            return owners.copy_from_slice(met);
        }
        let zone = |node: u16| self.zones[usize::from(node)];
        for place in 0..owners.len() {
            let (chosen, rest) = owners.split_at_mut(place);
            let of_zone = |node: u16| {
                chosen
                    .iter()
                    .filter(|own| zone(**own) == zone(node))
                    .count()
            };
            let left = met.iter().filter(|node| !chosen.contains(node));
            // The first one of those with the least number.
            if let Some(next) = left.min_by_key(|node| of_zone(**node)) {
                rest[0] = *next;
            }
        }
    }
}

/// Puts `node` to the front of `met`, which stays distinct and at most `width` long.
fn meet(met: &mut Vec<u16>, node: u16, width: usize) {
    match met.iter().position(|&known| known == node) {
        Some(place) => met[..=place].rotate_right(1),
        None => {
            met.insert(0, node);
            met.truncate(width);
        }
    }
}
