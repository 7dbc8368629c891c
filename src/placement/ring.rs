//! The ring: every owning node's virtual nodes in the order of their tokens, and the walk around it.
//!
//! The walk goes backwards. Standing at ring position i, the first `width` distinct nodes met clockwise are the
//! node at i followed by what was met from i+1 on, less that node: one move to the front of a short list. So all
//! preference lists together cost one pass, however unequal the nodes' weights are.

use super::{Node, PartitionId, Token};

/// The sorted virtual nodes; a node is its index in the topology.
pub(super) struct Ring(Vec<(Token, u16)>);

impl Ring {
    /// Places the nodes that own. Equal tokens are ordered by index, that is, by node id.
    pub(super) fn new(nodes: &[Node]) -> Self {
        let mut places: Vec<(Token, u16)> = (0u16..)
            .zip(nodes)
            .filter(|(_, node)| node.status.owns())
            .flat_map(|(index, node)| {
                (0..node.virtual_nodes)
                    .map(move |place| (Token::of_virtual_node(&node.id, place), index))
            })
            .collect();
        places.sort_unstable();
        Self(places)
    }

    /// The first `width` distinct nodes met from the start of each partition, all partitions end to end.
    /// `width` is at most the number of nodes that own.
    pub(super) fn preference_lists(&self, partitions: u32, width: usize) -> Vec<u16> {
        let mut met = Vec::with_capacity(width + 1);
        // Once around, so that the walk proper begins with what lies beyond the last token.
        for &(_, node) in self.0.iter().rev() {
            meet(&mut met, node, width);
        }
        let mut lists = vec![0; partitions as usize * width];
        let mut ahead = self.0.iter().rev().peekable();
        for partition in (0..partitions).rev() {
            let start = PartitionId(partition as u16).start(partitions);
            while let Some(&(_, node)) = ahead.next_if(|(token, _)| *token >= start) {
                meet(&mut met, node, width);
            }
            let first = partition as usize * width;
            lists[first..first + width].copy_from_slice(&met);
        }
        lists
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
