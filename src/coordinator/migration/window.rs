//! How many partitions are worked on at the same time: as many as the nodes bear without answering requests later.
//!
//! It is a congestion window whose signal is delay (Brakmo and Peterson, *TCP Vegas*, 1995), and like a background
//! transport it gives way to everybody else (RFC 6817, *LEDBAT*): while every node answers the requests of clients
//! about as fast as when nothing moves, the window grows; once one of them answers much later, it is halved. A change
//! goes on in any case: one partition is always worked on. How fast a node answers is what this coordinator sees of it
//! ([`NodeHealth::p95`]): requests of its clients and probes, and no exchange.
//!
//! How fast it answers when nothing moves is learned while nothing moves. Who comes to lead in the middle of a change
//! learns it with one partition at a time, and so does everybody once the load has changed: what is expected of a node
//! then rises slowly. Of a node that has just joined, and that clients hardly ask yet, no more is expected than of the
//! others.
//!
//! What this is not: the pace that people set, in bytes a second.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::health::NodeHealth;
use crate::placement::NodeId;
use crate::ports::Instant;

/// Partitions that are copied, or cleaned, at the same time at most. Each waits for its nodes most of its time.
pub(super) const PARTITIONS_AT_ONCE_MAX: usize = 32;
/// From one look at the nodes' answers to the next: what the last change of the window did is to be seen by then.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Answers below this are never late: on an idle cluster twice nothing is nothing.
const PROMPT: Duration = Duration::from_millis(2);
/// So many looks at a node that was not known before say what is to be expected of it.
const LEARNS_FOR: u32 = 5;

/// See the [module](self).
pub(super) struct Window {
    at_once: usize,
    nodes: BTreeMap<NodeId, Calm>,
    looked_at: Instant,
}

/// How long 19 of 20 answers of a node take when nothing moves, or as little as possible.
#[derive(Clone, Copy)]
struct Calm {
    p95: Duration,
    /// How often it was looked at.
    looks: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            at_once: 1,
            nodes: BTreeMap::new(),
            looked_at: Instant::default(),
        }
    }
}

impl Window {
    /// Nothing moves: so fast do the nodes answer without it, and the next change begins carefully. What is expected
    /// of a node rises by a tenth each time at most: right after a change it still answers as it did during it.
    pub(super) fn rest<'a>(&mut self, nodes: impl Iterator<Item = (&'a NodeId, &'a NodeHealth)>) {
        let nodes = nodes.map(|(node, health)| {
            let looks = LEARNS_FOR;
            let p95 = match self.nodes.get(node) {
                Some(known) => health.p95().min(known.p95 + known.p95 / 10),
                None => health.p95(),
            };
            (node.clone(), Calm { p95, looks })
        });
        self.nodes = nodes.filter(|(_, calm)| !calm.p95.is_zero()).collect();
        self.at_once = 1;
    }

    /// How many partitions may be worked on at the same time, now that the nodes answer as they do.
    pub(super) fn at_once<'a>(
        &mut self,
        nodes: impl Iterator<Item = (&'a NodeId, &'a NodeHealth)>,
        now: Instant,
    ) -> usize {
        if now >= self.looked_at + LOOK_EVERY {
            self.looked_at = now;
            self.look(nodes);
        }
        self.at_once
    }

    /// As it was found last.
    pub(super) const fn under_way_max(&self) -> usize {
        self.at_once
    }

    fn look<'a>(&mut self, nodes: impl Iterator<Item = (&'a NodeId, &'a NodeHealth)>) {
        let typical = self.typical();
        let (mut is_prompt, mut is_late) = (true, false);
        for (node, health) in nodes {
            let p95 = health.p95();
            if p95.is_zero() || !health.answers() {
                continue;
            }
            let new = Calm { p95, looks: 0 };
            let calm = self.nodes.entry(node.clone()).or_insert(new);
            calm.looks = calm.looks.saturating_add(1);
            if calm.looks < LEARNS_FOR {
                calm.p95 = p95;
                is_prompt &= p95 <= PROMPT;
                continue;
            }
            if p95 < calm.p95 {
                calm.p95 -= (calm.p95 - p95) / 4;
            } else if self.at_once == 1 {
                calm.p95 = p95.min(calm.p95 + calm.p95 / 50);
            }
            let expected = calm.p95.max(typical);
            is_prompt &= p95 <= PROMPT.max(expected * 6 / 5);
            is_late |= p95 > PROMPT.max(expected * 7 / 5);
        }
        if is_late {
            self.at_once = (self.at_once / 2).max(1);
        } else if is_prompt {
            let more = (self.at_once / 4).max(1);
            self.at_once = (self.at_once + more).min(PARTITIONS_AT_ONCE_MAX);
        }
    }

    /// What half of the nodes do at least as well as.
    fn typical(&self) -> Duration {
        let known = self.nodes.values().filter(|it| it.looks >= LEARNS_FOR);
        let mut known: Vec<Duration> = known.map(|it| it.p95).collect();
        known.sort_unstable();
        known.get(known.len() / 2).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Nodes(Vec<(NodeId, NodeHealth)>);

    impl Nodes {
        /// So many that all answer within `latency`.
        fn that_answer_in(count: usize, latency: Duration) -> Self {
            let node = |it: usize| NodeId::new(format!("node-{it}")).unwrap();
            let nodes = Self(
                (0..count)
                    .map(|it| (node(it), NodeHealth::default()))
                    .collect(),
            );
            (0..count).for_each(|it| nodes.answers(it, latency));
            nodes
        }

        /// So long that the estimate follows.
        fn answers(&self, node: usize, latency: Duration) {
            (0..20_000).for_each(|_| self.0[node].1.answered(latency));
        }

        fn all(&self) -> impl Iterator<Item = (&NodeId, &NodeHealth)> {
            self.0.iter().map(|(node, health)| (node, health))
        }
    }

    fn after(window: &mut Window, nodes: &Nodes, looks: u32) -> usize {
        for _ in 0..looks {
            let now = window.looked_at + LOOK_EVERY;
            window.at_once(nodes.all(), now);
        }
        window.at_once
    }

    #[test]
    fn it_grows_while_all_answer_as_when_nothing_moves_and_has_a_bound() {
        let nodes = Nodes::that_answer_in(3, MS * 8);
        let mut window = Window::default();
        window.rest(nodes.all());
        assert_eq!(after(&mut window, &nodes, 1), 2);
        nodes.answers(1, MS * 9);
        assert_eq!(after(&mut window, &nodes, 3), 5);
        assert_eq!(after(&mut window, &nodes, 20), PARTITIONS_AT_ONCE_MAX);
        let now = window.looked_at + LOOK_EVERY / 2;
        nodes.answers(0, MS * 80);
        assert_eq!(
            window.at_once(nodes.all(), now),
            PARTITIONS_AT_ONCE_MAX,
            "too early to tell"
        );
    }

    #[test]
    fn it_is_halved_while_one_answers_later_and_one_partition_goes_on() {
        let nodes = Nodes::that_answer_in(3, MS * 8);
        let mut window = Window::default();
        window.rest(nodes.all());
        assert_eq!(after(&mut window, &nodes, 8), 10);
        nodes.answers(2, MS * 10);
        assert_eq!(after(&mut window, &nodes, 1), 10, "neither late nor prompt");
        nodes.answers(2, MS * 13);
        assert_eq!(after(&mut window, &nodes, 1), 5);
        assert_eq!(after(&mut window, &nodes, 1), 2);
        assert_eq!(after(&mut window, &nodes, 2), 1);
    }

    #[test]
    fn what_is_expected_follows_a_load_that_grew_by_itself() {
        let nodes = Nodes::that_answer_in(3, MS * 8);
        let mut window = Window::default();
        window.rest(nodes.all());
        (0..3).for_each(|node| nodes.answers(node, MS * 24));
        assert_eq!(after(&mut window, &nodes, 20), 1);
        assert!(after(&mut window, &nodes, 60) > 1);
    }

    #[test]
    fn a_change_that_follows_at_once_expects_hardly_less_than_the_one_before() {
        let nodes = Nodes::that_answer_in(3, MS * 10);
        let mut window = Window::default();
        window.rest(nodes.all());
        (0..3).for_each(|node| nodes.answers(node, MS * 20));
        window.rest(nodes.all());
        assert_eq!(after(&mut window, &nodes, 3), 1);
        (0..10).for_each(|_| window.rest(nodes.all()));
        assert_eq!(after(&mut window, &nodes, 1), 2, "it is the load, by now");
    }

    #[test]
    fn who_comes_to_lead_in_the_middle_learns_with_one_partition_at_a_time() {
        let nodes = Nodes::that_answer_in(3, MS * 24);
        let mut window = Window::default();
        assert_eq!(after(&mut window, &nodes, 2), 1);
        (0..3).for_each(|node| nodes.answers(node, MS * 8));
        assert_eq!(after(&mut window, &nodes, 2), 1);
        (0..3).for_each(|node| nodes.answers(node, MS * 9));
        assert_eq!(
            after(&mut window, &nodes, 1),
            2,
            "so much is expected from here on"
        );
        (0..3).for_each(|node| nodes.answers(node, MS * 18));
        assert_eq!(after(&mut window, &nodes, 1), 1);
    }

    #[test]
    fn of_a_node_that_joins_no_more_is_expected_than_of_the_others() {
        let nodes = Nodes::that_answer_in(4, MS * 8);
        nodes.answers(3, MS);
        let mut window = Window::default();
        window.rest(nodes.all());
        nodes.answers(3, MS * 8);
        assert_eq!(after(&mut window, &nodes, 3), 4);
        nodes.answers(3, MS * 13);
        assert_eq!(after(&mut window, &nodes, 1), 2);
    }

    #[test]
    fn answers_in_no_time_are_not_late_because_they_take_twice_as_long() {
        let nodes = Nodes::that_answer_in(3, MS / 4);
        let mut window = Window::default();
        window.rest(nodes.all());
        (0..3).for_each(|node| nodes.answers(node, MS * 3 / 2));
        assert_eq!(after(&mut window, &nodes, 20), PARTITIONS_AT_ONCE_MAX);
    }

    #[test]
    fn a_node_that_does_not_answer_holds_up_nobody_and_one_that_is_new_is_known_as_it_is_met() {
        let nodes = Nodes::that_answer_in(3, MS * 8);
        let mut window = Window::default();
        window.rest(nodes.all().take(2));
        nodes.answers(1, MS * 80);
        (0..3).for_each(|_| nodes.0[1].1.failed(Instant::default()));
        assert_eq!(after(&mut window, &nodes, 20), PARTITIONS_AT_ONCE_MAX);
        nodes.answers(2, MS * 20);
        assert_eq!(after(&mut window, &nodes, 1), PARTITIONS_AT_ONCE_MAX / 2);
    }
}
