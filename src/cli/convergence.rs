//! How far the owners are from being equal: asked of a coordinator, shown to people and scripts.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, ClientArgs, Effect, failure};
use super::exit::Failure;
use super::output::{self, BAD, GOOD, STRONG, styled};
use crate::proto::v1::{
    GetConvergenceRequest, GetConvergenceResponse, HintsOutstanding, NodeConvergence,
};

/// Asks; with `ask_nodes` the coordinator asks all storage nodes first.
pub async fn convergence(
    args: &ClientArgs,
    client: &mut Client,
    ask_nodes: bool,
) -> Result<GetConvergenceResponse, Failure> {
    let asked = client
        .get_convergence(args.request(GetConvergenceRequest { ask_nodes }))
        .await;
    Ok(asked
        .map_err(|status| failure(&status, Effect::Reads))?
        .into_inner())
}

/// All of it for scripts.
pub fn to_json(all: &GetConvergenceResponse) -> Value {
    json!({
        "leads": all.leads,
        "rounds": all.rounds,
        "round_age_ms": all.round_age_ms,
        "trees": {
            "equal": all.trees_equal,
            "divergent": all.trees_divergent,
            "unknown": all.trees_unknown,
            "seen": all.trees_seen,
        },
        "records_exchanged": all.records_exchanged,
        "bytes_exchanged": all.bytes_exchanged,
        "tombstones_purged": all.tombstones_purged,
        "repairs_queued": all.repairs_queued,
        "repairs_dropped": all.repairs_dropped,
        "nodes": all.nodes.iter().map(|node| json!({
            "node": node.node_id,
            "report_age_ms": node.report_age_ms,
            "tombstones": node.tombstones,
            "refilling_ms": node.refilling_ms,
        })).collect::<Vec<_>>(),
        "hints": hints_to_json(all),
    })
}

/// The hints alone, for scripts.
pub fn hints_to_json(all: &GetConvergenceResponse) -> Value {
    let hints = owed(all).map(|(node, hints)| {
        json!({
            "holder": node.node_id,
            "target": hints.target,
            "outstanding": hints.outstanding,
            "oldest_age_ms": hints.oldest_age_ms,
            "rounds": hints.rounds,
            "report_age_ms": node.report_age_ms,
        })
    });
    hints.collect()
}

/// A few lines for people.
pub fn summary(all: &GetConvergenceResponse) -> Result<(), Failure> {
    output::line(&format!("trees: {}", trees(all)))?;
    let mut targets: Vec<&str> = owed(all).map(|(_, hints)| hints.target.as_str()).collect();
    targets.sort_unstable();
    targets.dedup();
    if targets.is_empty() {
        output::line("hints: none outstanding")?;
    }
    for target in targets {
        let to_it = || owed(all).filter(|(_, hints)| hints.target == target);
        let keys: u64 = to_it().map(|(_, hints)| hints.outstanding).sum();
        let oldest = to_it().map(|(_, hints)| hints.oldest_age_ms).max();
        let holders: Vec<&str> = to_it().map(|(node, _)| node.node_id.as_str()).collect();
        output::line(&format!(
            "hints: {} is owed {} by {}, the oldest for {}",
            styled(STRONG, target),
            keys_in_words(keys),
            holders.join(", "),
            age(oldest.unwrap_or(0))
        ))?;
    }
    let refilling = all.nodes.iter().filter_map(|node| {
        let since = node.refilling_ms?;
        Some((node.node_id.as_str(), since))
    });
    for (node, since) in refilling {
        output::line(&format!(
            "{} can't prove that it holds what it acknowledged: it {} before it has got back all that others hold; so for {}",
            styled(STRONG, node),
            styled(BAD, "counts for no quorum"),
            age(since)
        ))?;
    }
    let waiting: u64 = all.nodes.iter().map(|node| node.tombstones).sum();
    let purged = all.tombstones_purged;
    output::line(&format!(
        "tombstones: about {waiting} waiting on all nodes together, {purged} purged by this coordinator"
    ))
}

fn trees(all: &GetConvergenceResponse) -> String {
    let leads = match all.leads {
        true => "this coordinator compares them",
        false => "another coordinator compares them, or none yet",
    };
    let Some(round_age_ms) = all.round_age_ms else {
        return format!("{leads}; no round has ended here");
    };
    let (divergent, unknown) = (all.trees_divergent, all.trees_unknown);
    let style = if divergent + unknown == 0 { GOOD } else { BAD };
    let found = format!(
        "{} equal, {divergent} divergent, {unknown} unknown",
        all.trees_equal
    );
    let ago = age(round_age_ms);
    format!(
        "{} in the last round here, which ended {ago} ago; {leads}",
        styled(style, found)
    )
}

/// Who owes what.
pub fn owed(
    all: &GetConvergenceResponse,
) -> impl Iterator<Item = (&NodeConvergence, &HintsOutstanding)> {
    all.nodes
        .iter()
        .flat_map(|node| node.hints.iter().map(move |hints| (node, hints)))
}

/// "1 key", "2 keys".
pub fn keys_in_words(keys: u64) -> String {
    match keys {
        1 => "1 key".into(),
        keys => format!("{keys} keys"),
    }
}

/// "3m 20s"; nothing finer than a second.
pub fn age(ms: u64) -> String {
    match ms / 1000 {
        0 => "less than 1s".into(),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}
