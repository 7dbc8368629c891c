//! `pairdb hints`: what storage nodes owe each other, and waiting until one has got it.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::bounds::patience;
use super::client::{Client, ClientArgs, TokenArgs};
use super::convergence::{age, convergence, hints_to_json, keys_in_words, owed};
use super::exit::{Exit, Failure};
use super::output::{self, STRONG, styled};
use super::tls::TlsArgs;
use crate::proto::v1::{GetConvergenceResponse, NodeConvergence};

/// What `hints --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb hints                               # who owes whom how much
  pairdb hints wait --node node-3            # until node-3 has all that it is owed now

A hint notes that a node may lack what was written to a key while it did not answer. An owner that has
the record keeps the hint, durably, and delivers the record when the node is back.";

const WAIT_EXAMPLES: &str = "\
Example:
  pairdb hints wait --node node-3 --timeout 10m

Returns when all hints for the node that existed when it was called are delivered; hints that are noted
meanwhile are not waited for. Exits with 5 when that takes longer than the timeout.";

/// Between two looks.
const POLL: Duration = Duration::from_millis(300);
/// The longest time for one look.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The arguments of `hints`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Hints {
    #[command(subcommand)]
    command: Option<HintsCommand>,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Subcommand, Debug)]
enum HintsCommand {
    /// Wait until a node has got all that it is owed now
    #[command(after_help = WAIT_EXAMPLES)]
    Wait(Wait),
}

#[derive(Args, Debug)]
struct Wait {
    /// The node that is owed
    #[arg(long, value_name = "NAME")]
    node: String,

    /// The coordinator's gRPC address
    #[arg(
        long,
        env = "PAIRDB_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    server: String,

    /// Who asks
    #[command(flatten)]
    token: TokenArgs,

    /// Over what
    #[command(flatten)]
    tls: TlsArgs,

    /// How long to wait, such as 30s or 10m
    #[arg(long, default_value = "60s", value_parser = patience, value_name = "DURATION")]
    timeout: Duration,

    /// One JSON object on standard output instead of text; failures as one on standard error
    #[arg(long)]
    json: bool,
}

impl Hints {
    /// Whether JSON is wanted.
    pub const fn json(&self) -> bool {
        match &self.command {
            Some(HintsCommand::Wait(wait)) => wait.json,
            None => self.client.json,
        }
    }

    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        match self.command {
            Some(HintsCommand::Wait(wait)) => wait.run().await,
            None => list(&self.client).await,
        }
    }
}

async fn list(args: &ClientArgs) -> Result<(), Failure> {
    let mut client = args.connect().await?;
    let all = convergence(args, &mut client, true).await?;
    let unknown: Vec<&str> = silent(&all).collect();
    if args.json {
        return output::json(&json!({ "hints": hints_to_json(&all), "did_not_answer": unknown }));
    }
    let mut any = false;
    for (node, hints) in owed(&all) {
        if !any {
            let head = format!(
                "{:16}  {:16}  {:>10}  OLDEST",
                "HOLDER", "LACKED BY", "KEYS"
            );
            output::line(&styled(STRONG, head))?;
            any = true;
        }
        let oldest = age(hints.oldest_age_ms);
        output::line(&format!(
            "{:16}  {:16}  {:>10}  {oldest}",
            node.node_id, hints.target, hints.outstanding
        ))?;
    }
    if !any {
        output::line("no hints outstanding")?;
    }
    match unknown.is_empty() {
        true => Ok(()),
        false => output::line(&format!(
            "{} did not answer: what is owed there may have changed",
            unknown.join(", ")
        )),
    }
}

fn silent(all: &GetConvergenceResponse) -> impl Iterator<Item = &str> {
    let silent = all.nodes.iter().filter(|node| !node.answered);
    silent.map(|node| node.node_id.as_str())
}

impl Wait {
    async fn run(self) -> Result<(), Failure> {
        let give_up = Instant::now() + self.timeout;
        let args = ClientArgs {
            server: self.server.clone(),
            token: self.token.clone(),
            tls: self.tls.clone(),
            timeout: self.timeout.min(LOOK_MAX),
            json: self.json,
        };
        let mut client = args.connect().await?;
        let began = Instant::now();
        let mut waiting = Waiting::new(&self.node);
        let progress = Progress::new(&self.node);
        let waited = self.watch(&args, &mut client, &mut waiting, &progress);
        let waited = timeout_at(give_up, waited).await;
        progress.end();
        match waited {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Err(waiting.too_late(self.timeout)),
        }
        let took = began.elapsed();
        args.print(
            || json!({ "node": self.node, "hints": waiting.existed(), "waited_ms": took.as_millis() as u64 }),
            || {
                format!(
                    "{} has got all that it was owed: {} in {}",
                    self.node,
                    keys_in_words(waiting.existed()),
                    age(took.as_millis() as u64)
                )
            },
        )
    }

    async fn watch(
        &self,
        args: &ClientArgs,
        client: &mut Client,
        waiting: &mut Waiting,
        progress: &Progress,
    ) -> Result<(), Failure> {
        loop {
            let all = convergence(args, client, true).await?;
            if !all.nodes.iter().any(|node| node.node_id == self.node) {
                let missing = format!("the cluster has no storage node '{}'", self.node);
                return Err(Failure::new(Exit::NotFound, "NODE_NOT_FOUND", missing)
                    .hint("`pairdb node list` shows all"));
            }
            if waiting.look(&all) {
                return Ok(());
            }
            progress.show(waiting);
            sleep(POLL).await;
        }
    }
}

/// Who may still owe something that was owed when the wait began.
struct Waiting {
    target: String,
    /// By holder.
    holders: BTreeMap<String, Holder>,
}

/// What is known of one holder.
#[derive(Clone, Copy, Default)]
struct Holder {
    /// What it owed when it first answered, and its rounds then.
    first: Option<(u64, u64)>,
    /// What it owes now.
    outstanding: u64,
    done: bool,
}

impl Waiting {
    fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            holders: BTreeMap::new(),
        }
    }

    /// Takes the newest answers in. Returns whether all hints that existed are delivered.
    fn look(&mut self, all: &GetConvergenceResponse) -> bool {
        // Who is part of the cluster no more owes nothing.
        self.holders
            .retain(|name, _| all.nodes.iter().any(|node| node.node_id == *name));
        let others = all.nodes.iter().filter(|node| node.node_id != self.target);
        for node in others {
            let holder = self.holders.entry(node.node_id.clone()).or_default();
            if node.answered {
                holder.answered(node, &self.target);
            }
        }
        self.holders.values().all(|holder| holder.done)
    }

    fn existed(&self) -> u64 {
        let first = self.holders.values().filter_map(|holder| holder.first);
        first.map(|(outstanding, _)| outstanding).sum()
    }

    fn left(&self) -> u64 {
        let left = self.holders.values().filter(|holder| !holder.done);
        left.map(|holder| holder.outstanding).sum()
    }

    fn too_late(&self, patience: Duration) -> Failure {
        let owing = self.holders.iter().filter(|(_, holder)| !holder.done);
        let owing: Vec<String> = owing
            .map(|(name, holder)| match holder.first {
                None => format!("{name} does not answer, so what it owes is not known"),
                Some(_) => format!("{name} still owes {}", keys_in_words(holder.outstanding)),
            })
            .collect();
        let cause = match owing.is_empty() {
            true => "the coordinator did not say in time".to_owned(),
            false => owing.join("; "),
        };
        let patience = humantime::format_duration(patience);
        let message = format!(
            "{} has not got all that it is owed within {patience}: {cause}",
            self.target
        );
        Failure::new(Exit::Unavailable, "TIMEOUT", message).hint(
            "`pairdb status` shows whether the nodes answer; wait longer with --timeout. Nothing is lost: \
             hints are kept until they are delivered",
        )
    }
}

impl Holder {
    fn answered(&mut self, node: &NodeConvergence, target: &str) {
        let owed = node.hints.iter().find(|hints| hints.target == target);
        let (outstanding, rounds) = owed.map_or((0, 0), |owed| (owed.outstanding, owed.rounds));
        self.outstanding = outstanding;
        let (existed, mut since) = *self.first.get_or_insert((outstanding, rounds));
        if rounds < since {
            // It was started again: what it still had then, it has gone through since.
            since = rounds;
            self.first = Some((existed, since));
        }
        // The round under way at the call may have begun behind a hint; the one after it goes through all.
        self.done |= outstanding == 0 || rounds >= since + 2;
    }
}

/// A line that moves, on a terminal.
struct Progress(ProgressBar);

impl Progress {
    fn new(node: &str) -> Self {
        let bar = output::progress("{msg} [{bar:30}] {pos} of {len} keys");
        Self(bar.with_message(node.to_owned()))
    }

    fn show(&self, waiting: &Waiting) {
        let existed = waiting.existed();
        self.0.set_length(existed);
        self.0.set_position(existed.saturating_sub(waiting.left()));
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::HintsOutstanding;

    fn node(name: &str, answered: bool, owes: Option<(u64, u64)>) -> NodeConvergence {
        let hints = owes.map(|(outstanding, rounds)| HintsOutstanding {
            target: "c".into(),
            outstanding,
            oldest_age_ms: 0,
            rounds,
        });
        NodeConvergence {
            node_id: name.into(),
            reachable: answered,
            answered,
            report_age_ms: None,
            tombstones: 0,
            refilling_ms: None,
            hints: hints.into_iter().collect(),
        }
    }

    fn look(waiting: &mut Waiting, a: NodeConvergence, b: NodeConvergence) -> bool {
        waiting.look(&GetConvergenceResponse {
            nodes: vec![a, b, node("c", false, None)],
            ..Default::default()
        })
    }

    #[test]
    fn a_wait_ends_when_every_holder_owes_nothing_or_has_gone_through_all_of_it() {
        let mut waiting = Waiting::new("c");
        let a = |owes| node("a", true, owes);
        let b = |owes| node("b", true, owes);
        assert!(!look(&mut waiting, a(Some((5, 1))), b(Some((2, 7)))));
        assert_eq!((waiting.existed(), waiting.left()), (7, 7));
        assert!(!look(&mut waiting, a(None), b(Some((9, 8)))));
        assert!(look(&mut waiting, a(Some((3, 2))), b(Some((9, 9)))));
    }

    #[test]
    fn who_does_not_answer_may_owe_something() {
        let mut waiting = Waiting::new("c");
        let silent = || node("b", false, None);
        assert!(!look(&mut waiting, node("a", true, None), silent()));
        assert!(!look(&mut waiting, node("a", true, None), silent()));
        let failure = waiting.too_late(Duration::from_secs(60));
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains("within 1m: b does not answer"));
        let back = node("b", true, None);
        assert!(look(&mut waiting, node("a", true, None), back));
    }

    #[test]
    fn a_holder_that_starts_again_counts_its_rounds_from_there() {
        let mut waiting = Waiting::new("c");
        let b = || node("b", true, None);
        let a = |rounds| node("a", true, Some((4, rounds)));
        assert!(!look(&mut waiting, a(9), b()));
        assert!(!look(&mut waiting, a(0), b()));
        assert!(!look(&mut waiting, a(1), b()));
        assert!(look(&mut waiting, a(2), b()));
    }
}
