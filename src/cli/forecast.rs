//! What a change of owners would move, for people and scripts.

use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration};
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::{self, BAD, FAINT, STRONG, styled};
use crate::proto::v1::{PlanNodesResponse, PlannedNode};

/// The longest bar.
const BAR: u64 = 20;

/// All of it for scripts.
pub fn to_json(plan: &PlanNodesResponse) -> Value {
    let nodes = plan.nodes.iter().map(|node| {
        json!({
            "node": node.node_id,
            "partitions_before": node.partitions_before,
            "partitions_after": node.partitions_after,
            "keys_before": node.keys_before,
            "keys_after": node.keys_after,
            "keys_gained": node.keys_gained,
        })
    });
    json!({
        "partitions": plan.partitions,
        "partitions_moving": plan.partitions_moving,
        "copies": plan.copies,
        "copies_moving": plan.copies_moving,
        "estimated_bytes_moving": plan.bytes_moving,
        "estimated_seconds": plan.estimated_seconds,
        "nodes": nodes.collect::<Vec<_>>(),
        "did_not_answer": plan.silent,
    })
}

/// All of it for people.
pub fn print(plan: &PlanNodesResponse) -> Result<(), Failure> {
    for line in lines(plan) {
        output::line(&line)?;
    }
    Ok(())
}

fn lines(plan: &PlanNodesResponse) -> Vec<String> {
    let share = match plan.copies {
        0 => 0.0,
        copies => plan.copies_moving as f64 * 100.0 / copies as f64,
    };
    let mut lines = vec![
        format!(
            "{} of {} partitions with keys get another owner",
            plan.partitions_moving, plan.partitions
        ),
        format!(
            "{} of {} copies of keys have to be made ({share:.0} %)",
            plan.copies_moving, plan.copies
        ),
    ];
    if let (Some(bytes), true) = (plan.bytes_moving, plan.copies_moving > 0) {
        let takes = plan.estimated_seconds.map_or_else(String::new, |seconds| {
            format!(", in about {}", HumanDuration(Duration::from_secs(seconds)))
        });
        lines.push(format!(
            "about {}{takes}, by what the last migration moved",
            BinaryBytes(bytes)
        ));
    }
    lines.extend(table(&plan.nodes));
    if !plan.silent.is_empty() {
        lines.push(styled(
            BAD,
            format!(
                "{} did not answer: what only they hold is not counted",
                plan.silent.join(", ")
            ),
        ));
    }
    lines.push(styled(FAINT, "nothing was changed"));
    lines
}

/// Each node's load before and after. By keys; where there are none, by partitions.
fn table(nodes: &[PlannedNode]) -> Vec<String> {
    let has_keys = nodes
        .iter()
        .any(|node| node.keys_before + node.keys_after > 0);
    let load = |node: &PlannedNode| match has_keys {
        true => (node.keys_before, node.keys_after),
        false => (node.partitions_before, node.partitions_after),
    };
    let loads = nodes.iter().map(load);
    let most = loads.map(|(before, after)| before.max(after)).max();
    let most = most.unwrap_or(0).max(1);
    let width = nodes.iter().map(|node| node.node_id.len()).max();
    let width = width.unwrap_or(0).max("NODE".len());
    let (what, cells) = (if has_keys { "KEYS" } else { "PARTITIONS" }, BAR as usize);
    let head = format!(
        "{:width$}  {:>10}  {:cells$}  {:>10}  {:cells$}  {:>10}",
        "NODE",
        "BEFORE",
        what.to_lowercase(),
        "AFTER",
        what.to_lowercase(),
        "KEYS GOT"
    );
    let mut lines = vec![styled(STRONG, head)];
    lines.extend(nodes.iter().map(|node| {
        let (before, after) = load(node);
        format!(
            "{:width$}  {before:>10}  {:cells$}  {after:>10}  {:cells$}  {:>10}",
            node.node_id,
            bar(before, most),
            bar(after, most),
            node.keys_gained
        )
    }));
    lines
}

/// As long as its share of the most; never nothing for something.
fn bar(load: u64, most: u64) -> String {
    let cells = (u128::from(load) * u128::from(BAR)).div_ceil(u128::from(most.max(1)));
    let cells = usize::try_from(cells).unwrap_or(0).min(BAR as usize);
    "█".repeat(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, partitions: (u64, u64), keys: (u64, u64)) -> PlannedNode {
        PlannedNode {
            node_id: id.into(),
            partitions_before: partitions.0,
            partitions_after: partitions.1,
            keys_before: keys.0,
            keys_after: keys.1,
            keys_gained: keys.1.saturating_sub(keys.0),
        }
    }

    #[test]
    fn the_load_of_each_node_is_drawn_before_and_after() {
        let plan = PlanNodesResponse {
            partitions: 1024,
            partitions_moving: 512,
            copies: 300,
            copies_moving: 75,
            nodes: vec![node("n1", (9, 4), (100, 50)), node("n4", (0, 5), (0, 75))],
            silent: vec!["n3".into()],
            bytes_moving: Some(3 << 20),
            estimated_seconds: Some(90),
        };
        let lines = lines(&plan).join("\n");
        assert!(lines.contains("75 of 300 copies of keys have to be made (25 %)"));
        let about = "about 3.00 MiB, in about 2 minutes, by what the last migration moved";
        assert!(lines.contains(about), "{lines}");
        let full = "█".repeat(20);
        let half = format!("{:20}", "█".repeat(10));
        let line = format!("n1           100  {full}          50  {half}           0");
        assert!(lines.contains(&line), "{lines}");
        assert!(lines.contains("n3 did not answer"), "{lines}");
    }

    #[test]
    fn without_keys_partitions_are_drawn() {
        let nodes = [node("n1", (10, 5), (0, 0)), node("n2", (0, 1), (0, 0))];
        let lines = table(&nodes).join("\n");
        assert!(lines.contains("partitions") && lines.contains(&"█".repeat(20)));
        assert_eq!(bar(1, 1000), "█", "never nothing for something");
        assert_eq!(bar(0, 0), "");
    }
}
