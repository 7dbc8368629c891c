//! What a coordinator of the release before reads and writes of the topology. It knows neither changes of owners nor
//! what came with them, and names the columns that it knows.
//!
//! Of that release (wire version 1), in PostgreSQL: it reads `epoch`, `partitions` and of the nodes `id`, `host`,
//! `port`, `virtual_nodes` and `status`. It writes `UPDATE topology SET epoch, partitions` (the columns that were added
//! since stay as they are), deletes all rows of `storage_nodes` and inserts them anew (so in theirs is what columns
//! begin with).

use pairdb::placement::{Epoch, Node, Topology};

/// A topology as it is read.
pub(super) fn read(stored: &Topology) -> Topology {
    Topology {
        nodes: without_places(&stored.nodes),
        factors_since: Epoch(0),
        change: None,
        ..stored.clone()
    }
}

/// What is stored when it replaces `stored` by `next`.
pub(super) fn written(stored: &Topology, next: &Topology) -> Topology {
    Topology {
        nodes: without_places(&next.nodes),
        factors_since: stored.factors_since,
        change: stored.change.clone(),
        ..next.clone()
    }
}

fn without_places(nodes: &[Node]) -> Vec<Node> {
    let without = |node: &Node| Node {
        zone: None,
        seat: None,
        ..node.clone()
    };
    nodes.iter().map(without).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the release before changes of owners wrote it, member by member.
    const OLDER: &str = r#"{"epoch":7,"partitions":4,"nodes":[{"id":"n1","host":"h1","port":1,"virtual_nodes":8,"status":"active"}]}"#;
    const NEWER: &str = r#"{"epoch":7,"partitions":4,"nodes":[{"id":"n1","host":"h1","port":1,"virtual_nodes":8,"status":"active","zone":"east","seat":"n0"}],"factors_since":5}"#;

    fn topology(text: &str) -> Topology {
        serde_json::from_str(text).expect("a topology")
    }

    #[test]
    fn what_it_does_not_know_it_neither_reads_nor_writes() {
        let (older, newer) = (topology(OLDER), topology(NEWER));
        assert_eq!(read(&newer), older);
        assert_eq!(read(&older), older);
        let next = older.at(Epoch(8));
        let stored = written(&newer, &next);
        assert_eq!(read(&stored), next);
        assert_eq!(stored.factors_since, Epoch(5), "a column of its own stays");
        assert_eq!(
            stored.nodes[0].zone, None,
            "a row that is made anew has none"
        );
    }
}
