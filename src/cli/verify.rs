//! `pairdb verify`: do all owners of all keys hold the same?

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::client::{ClientArgs, Effect, failure};
use super::convergence::keys_in_words;
use super::exit::{Exit, Failure};
use super::output::{self, BAD, GOOD, STRONG, styled};
use crate::proto::v1::{KeyDifference, OwnerRecord, VerifyPageRequest, VerifyPageResponse};

/// What `verify --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb verify
  pairdb verify --tenant carts --json

Reads every owner of every key and prints the keys that owners hold differently, also when read again a
moment later. It mends nothing, and takes about as long as reading all data once; with writes under way a
key can be named that is equal soon after.

Exits with 0 when all owners are equal, with 1 when some differ, and with 5 when none differ but an owner
did not answer, so that equality is not proved.";

/// Differences that are listed in JSON; all are counted.
const LISTED_MAX: usize = 1000;

/// The arguments of `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// Of this tenant only
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    tenant: String,
    /// Where and how; the timeout is for each of many pages
    #[command(flatten)]
    pub client: ClientArgs,
}

/// What all pages came to.
#[derive(Default)]
struct Found {
    keys: u64,
    trees: u64,
    differing: u64,
    listed: Vec<Value>,
    /// By name: in how many trees it was missing, and why.
    unverified: BTreeMap<String, (u64, String)>,
}

impl Verify {
    /// Goes through all pages and prints.
    pub async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let bar = output::progress("[{bar:30}] {percent:>3}% {msg} ({elapsed}, {eta} left)");
        let mut found = Found::default();
        let mut after = Default::default();
        loop {
            let request = VerifyPageRequest {
                tenant_id: self.tenant.clone(),
                after,
            };
            let page = client.verify_page(self.client.request(request)).await;
            let page = page.map_err(|status| {
                bar.finish_and_clear();
                failure(&status, Effect::Reads)
            })?;
            let page = page.into_inner();
            bar.set_length(page.partitions.into());
            bar.set_position(page.partition.into());
            after = page.next.clone();
            bar.suspend(|| found.add(page, self.client.json))?;
            bar.set_message(found.in_words());
            if after.is_empty() {
                break;
            }
        }
        bar.finish_and_clear();
        self.client.print(|| found.to_json(), || found.verdict())?;
        found.result()
    }
}

impl Found {
    /// Takes a page in and prints what differs.
    fn add(&mut self, page: VerifyPageResponse, as_json: bool) -> Result<(), Failure> {
        self.keys += page.keys;
        self.trees += page.trees;
        for unverified in page.unverified {
            let (trees, cause) = self.unverified.entry(unverified.name).or_default();
            *trees += unverified.trees;
            *cause = unverified.cause;
        }
        for difference in page.differences {
            self.differing += 1;
            if !as_json {
                output::line(&in_words(&difference))?;
            } else if self.listed.len() < LISTED_MAX {
                self.listed.push(difference_to_json(&difference));
            }
        }
        Ok(())
    }

    fn in_words(&self) -> String {
        let keys = keys_in_words(self.keys);
        match self.differing {
            0 => format!("{keys} compared"),
            differing => format!("{keys} compared, {differing} differ"),
        }
    }

    fn verdict(&self) -> String {
        let (style, verdict) = match (self.differing, self.unverified.is_empty()) {
            (0, true) => (GOOD, "all owners are equal"),
            (0, false) => (BAD, "no difference seen, but not all owners answered"),
            (_, _) => (BAD, "owners differ"),
        };
        let mut text = format!(
            "{}: {} in {} trees",
            styled(style, verdict),
            self.in_words(),
            self.trees
        );
        for (name, (trees, cause)) in &self.unverified {
            // A String takes all that is written to it.
            let _ = write!(text, "\nnot compared: {name}, in {trees} trees: {cause}");
        }
        text
    }

    fn to_json(&self) -> Value {
        let unverified = self.unverified.iter();
        json!({
            "equal": self.differing == 0 && self.unverified.is_empty(),
            "keys": self.keys,
            "trees": self.trees,
            "differing": self.differing,
            "differences": self.listed,
            "not_compared": unverified.map(|(name, (trees, cause))| json!({
                "name": name,
                "trees": trees,
                "cause": cause,
            })).collect::<Vec<_>>(),
        })
    }

    fn result(&self) -> Result<(), Failure> {
        if self.differing > 0 {
            let message = format!("owners hold {} differently", keys_in_words(self.differing));
            return Err(Failure::new(Exit::Failure, "DIFFERENT", message).hint(
                "they become equal by themselves; if the same keys are named again after \
                 coordinator.anti_entropy_period, `pairdb status` says what stands in the way",
            ));
        }
        if self.unverified.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.unverified.keys().map(String::as_str).collect();
        let message = format!("{} could not be compared", names.join(", "));
        Err(Failure::new(Exit::Unavailable, "NOT_COMPARED", message)
            .hint("`pairdb status` shows which storage nodes answer; verify again when all do"))
    }
}

fn in_words(difference: &KeyDifference) -> String {
    let mut text = format!(
        "{} of tenant {}:",
        styled(STRONG, difference.key.escape_debug()),
        difference.tenant_id
    );
    for owner in &difference.owners {
        let _ = write!(text, "\n  {}: {}", owner.node_id, holds(owner));
    }
    text
}

fn holds(owner: &OwnerRecord) -> String {
    match owner.state.as_str() {
        "nothing" => "nothing".into(),
        "unknown" => "did not answer".into(),
        "damaged" => format!("damaged: {}", owner.cause),
        state => {
            let written = humantime::format_rfc3339_millis(
                std::time::UNIX_EPOCH
                    + std::time::Duration::from_millis(owner.stamp_unix_ms.unsigned_abs()),
            );
            let siblings = match owner.siblings {
                0 | 1 => String::new(),
                more => format!(" and {} siblings", more - 1),
            };
            format!("{state}{siblings} of {written}, {}", hex(&owner.hash))
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn difference_to_json(difference: &KeyDifference) -> Value {
    json!({
        "tenant": difference.tenant_id,
        "key": difference.key,
        "owners": difference.owners.iter().map(|owner| json!({
            "node": owner.node_id,
            "state": owner.state,
            "hash": hex(&owner.hash),
            "siblings": owner.siblings,
            "stamp_unix_ms": owner.stamp_unix_ms,
            "cause": owner.cause,
        })).collect::<Vec<_>>(),
    })
}
