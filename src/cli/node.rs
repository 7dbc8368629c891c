//! `pairdb node`: the storage nodes of the cluster.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::change::{ChangeArgs, migration, of_nodes};
use super::client::{Client, ClientArgs, Effect, failure};
use super::exit::Failure;
use super::output::{self, BAD, FAINT, GOOD, STRONG, styled};
use crate::config::host_and_port;
use crate::placement::MAX_VIRTUAL_NODES;
use crate::proto::v1::node_change::Change;
use crate::proto::v1::{
    AddStorageNodeRequest, ListStorageNodesRequest, RemoveStorageNodeRequest, ReplaceStorageNode,
    SetStorageNode, StorageNodeInfo,
};

/// What `node --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb node list
  pairdb node add node-4=10.0.0.4:50052 node-5=10.0.0.5:50052 --dry-run
  pairdb node add node-4=10.0.0.4:50052 node-5=10.0.0.5:50052 --wait
  pairdb node remove node-4
  pairdb node replace node-2 node-7=10.0.0.7:50052 --force
  pairdb node set node-1 --virtual-nodes 300

While no node holds a record a change is made at once. Otherwise a migration moves the data, in the
background, and clients go on reading and writing: see `pairdb migration`. Several nodes in one
command are one change, and data moves once.";

const ADD_EXAMPLES: &str = "\
Examples:
  pairdb node add node-4=10.0.0.4:50052 node-5=10.0.0.5:50052 node-6=10.0.0.6:50052 --dry-run
  pairdb node add node-4=10.0.0.4:50052 --zone rack-2 --virtual-nodes 300 --wait
  pairdb node add node-4 10.0.0.4 50052

A new node must answer and be empty, so start it first.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  pairdb node remove node-4 --wait
  pairdb node remove node-4 --force       # it is lost, with its disk

Without --force it hands over what it holds, so it must answer. It can be stopped once the migration
is completed.";

const REPLACE_EXAMPLES: &str = "\
Examples:
  pairdb node replace node-2 node-7=10.0.0.7:50052 --dry-run
  pairdb node replace node-2 node-7=10.0.0.7:50052 --force --wait      # node-2 is lost, with its disk

The new node owns exactly what the other one owned, so no other data moves.";

const SET_EXAMPLES: &str = "\
Examples:
  pairdb node set node-1 node-2 --virtual-nodes 300
  pairdb node set node-1 --zone rack-1 --dry-run
  pairdb node set node-1 --no-zone";

/// What to do with a storage node.
#[derive(Subcommand, Debug)]
pub enum NodeCommand {
    /// Add storage nodes to the cluster
    #[command(after_help = ADD_EXAMPLES)]
    Add(Add),
    /// Take storage nodes out of the cluster
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(Remove),
    /// Put a new storage node into the place of another one
    #[command(after_help = REPLACE_EXAMPLES)]
    Replace(Replace),
    /// Give storage nodes another share of the data, or another zone
    #[command(after_help = SET_EXAMPLES)]
    Set(Set),
    /// List the storage nodes and how they are
    #[command(after_help = "Example:\n  pairdb node list --json")]
    List(List),
}

/// The arguments of `node add`.
#[derive(Args, Debug)]
pub struct Add {
    /// Each node's name, unique in its cluster, and where coordinators reach it; or of one node NAME HOST PORT
    #[arg(required = true, value_name = "NAME=HOST:PORT")]
    nodes: Vec<String>,
    /// How many tokens each has on the ring, in proportion to its share of the data
    #[arg(long, visible_alias = "weight", default_value_t = 150, value_name = "N",
          value_parser = clap::value_parser!(i32).range(1..=i64::from(MAX_VIRTUAL_NODES)))]
    virtual_nodes: i32,
    /// What they share a fate with other nodes in, such as a rack: owners lie in as many zones as there are
    #[arg(long)]
    zone: Option<String>,
    /// How it is asked for
    #[command(flatten)]
    change: ChangeArgs,
}

/// The arguments of `node remove`.
#[derive(Args, Debug)]
pub struct Remove {
    /// The nodes' names
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Take them for lost: they do not answer, and what only they hold is given up
    #[arg(long)]
    force: bool,
    /// How it is asked for
    #[command(flatten)]
    change: ChangeArgs,
}

/// The arguments of `node replace`.
#[derive(Args, Debug)]
pub struct Replace {
    /// Who leaves
    node: String,
    /// Who joins, and where coordinators reach it
    #[arg(value_name = "NAME=HOST:PORT")]
    by: String,
    /// The zone of the new node, if it is another one
    #[arg(long)]
    zone: Option<String>,
    /// Take the one that leaves for lost: it does not answer, and what only it holds is given up
    #[arg(long)]
    force: bool,
    /// How it is asked for
    #[command(flatten)]
    change: ChangeArgs,
}

/// The arguments of `node set`.
#[derive(Args, Debug)]
pub struct Set {
    /// The nodes' names
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// How many tokens each is to have on the ring, in proportion to its share of the data
    #[arg(long, visible_alias = "weight", value_name = "N", required_unless_present_any = ["zone", "no_zone"],
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_VIRTUAL_NODES)))]
    virtual_nodes: Option<u32>,
    /// In which zone they are to be
    #[arg(long)]
    zone: Option<String>,
    /// In no zone
    #[arg(long, conflicts_with = "zone")]
    no_zone: bool,
    /// How it is asked for
    #[command(flatten)]
    change: ChangeArgs,
}

/// The arguments of `node list`.
#[derive(Args, Debug)]
pub struct List {
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

impl NodeCommand {
    /// Where and how.
    pub const fn client(&self) -> &ClientArgs {
        match self {
            Self::Add(add) => &add.change.client,
            Self::Remove(remove) => &remove.change.client,
            Self::Replace(replace) => &replace.change.client,
            Self::Set(set) => &set.change.client,
            Self::List(list) => &list.client,
        }
    }

    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::Replace(replace) => replace.run().await,
            Self::Set(set) => set.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

/// A node that joins.
fn joining(name: &str, host: String, port: u16) -> AddStorageNodeRequest {
    AddStorageNodeRequest {
        node_id: name.to_owned(),
        host,
        port: i32::from(port),
        ..AddStorageNodeRequest::default()
    }
}

/// A node that joins, of `NAME=HOST:PORT`.
fn placed(text: &str) -> Result<AddStorageNodeRequest, Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("{text} {why}"))
            .hint("write NAME=HOST:PORT, such as node-4=10.0.0.4:50052")
    };
    let (name, address) = text
        .rsplit_once('=')
        .ok_or_else(|| wrong("does not say where the node is"))?;
    let (host, port) = host_and_port(address).map_err(|why| wrong(&format!("is wrong: {why}")))?;
    Ok(joining(name, host, port))
}

/// The nodes that join: `NAME=HOST:PORT` each, or one as `NAME HOST PORT`.
fn all_placed(words: &[String]) -> Result<Vec<AddStorageNodeRequest>, Failure> {
    if let [name, host, port] = words
        && let Ok(port) = port.parse::<u16>()
    {
        return match port {
            0 => Err(Failure::usage("port 0 can't be reached; it is 1 to 65535")),
            port => Ok(vec![joining(name, host.clone(), port)]),
        };
    }
    words.iter().map(|word| placed(word)).collect()
}

impl Add {
    async fn run(self) -> Result<(), Failure> {
        let mut nodes = all_placed(&self.nodes)?;
        for node in &mut nodes {
            node.virtual_nodes = self.virtual_nodes;
            node.zone = self.zone.clone().unwrap_or_default();
        }
        let names: Vec<String> = nodes.iter().map(|node| node.node_id.clone()).collect();
        let change = of_nodes(nodes.into_iter().map(Change::Add));
        self.change.nodes(change, &names).await
    }
}

impl Remove {
    async fn run(self) -> Result<(), Failure> {
        let force = self.force;
        let names = self.nodes.iter().cloned();
        let change =
            names.map(|node_id| Change::Remove(RemoveStorageNodeRequest { node_id, force }));
        self.change.nodes(of_nodes(change), &self.nodes).await
    }
}

impl Replace {
    async fn run(self) -> Result<(), Failure> {
        let by = AddStorageNodeRequest {
            zone: self.zone.unwrap_or_default(),
            ..placed(&self.by)?
        };
        let names = [self.node.clone(), by.node_id.clone()];
        let change = Change::Replace(ReplaceStorageNode {
            node_id: self.node,
            by: Some(by),
            force: self.force,
        });
        self.change.nodes(of_nodes([change]), &names).await
    }
}

impl Set {
    async fn run(self) -> Result<(), Failure> {
        let zone = match self.no_zone {
            true => Some(String::new()),
            false => self.zone,
        };
        let change = self.nodes.iter().map(|node| {
            Change::Set(SetStorageNode {
                node_id: node.clone(),
                virtual_nodes: self.virtual_nodes,
                zone: zone.clone(),
            })
        });
        self.change.nodes(of_nodes(change), &self.nodes).await
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let nodes = nodes(&self.client, &mut client).await?;
        if self.client.json {
            return output::json(
                &json!({ "nodes": nodes.iter().map(to_json).collect::<Vec<_>>() }),
            );
        }
        table(&nodes)
    }
}

/// Asks for all storage nodes.
pub async fn nodes(
    args: &ClientArgs,
    client: &mut Client,
) -> Result<Vec<StorageNodeInfo>, Failure> {
    let listed = client
        .list_storage_nodes(args.request(ListStorageNodesRequest {}))
        .await;
    let listed = listed.map_err(|status| failure(&status, Effect::Reads))?;
    Ok(listed.into_inner().nodes)
}

/// A node for scripts.
pub fn to_json(node: &StorageNodeInfo) -> Value {
    json!({
        "node": node.node_id,
        "host": node.host,
        "port": node.port,
        "status": node.status,
        "reachable": node.reachable,
        "refuses_writes": if node.refuses_writes.is_empty() { Value::Null } else { json!(node.refuses_writes) },
        "virtual_nodes": node.virtual_nodes,
        "keys": node.keys_count,
        "disk_usage_percent": node.disk_usage_percent,
        "epoch": node.epoch,
        "out_of_step": node.out_of_step,
        "incarnation": node.incarnation,
        "zone": if node.zone.is_empty() { Value::Null } else { json!(node.zone) },
        "migration_id": migration(&node.migration_id),
    })
}

/// The nodes for people.
pub fn table(nodes: &[StorageNodeInfo]) -> Result<(), Failure> {
    if nodes.is_empty() {
        return output::line("no storage nodes; add one with `pairdb node add NAME=HOST:PORT`");
    }
    let addresses: Vec<String> = nodes
        .iter()
        .map(|node| format!("{}:{}", node.host, node.port))
        .collect();
    let name_width = nodes
        .iter()
        .map(|node| node.node_id.len())
        .max()
        .unwrap_or(0)
        .max("NODE".len());
    let address_width = addresses
        .iter()
        .map(String::len)
        .max()
        .unwrap_or(0)
        .max("ADDRESS".len());
    let head = format!(
        "{:name_width$}  {:address_width$}  {:>10}  {:>5}  {:>6}  {:8}  STATE",
        "NODE", "ADDRESS", "KEYS", "DISK", "EPOCH", "STATUS"
    );
    output::line(&styled(STRONG, head))?;
    for (node, address) in nodes.iter().zip(&addresses) {
        let state = match (node.reachable, node.refuses_writes.as_str()) {
            (false, _) => styled(BAD, "unreachable"),
            _ if node.out_of_step => styled(BAD, "counts as missing: no such epoch"),
            (true, "") => styled(GOOD, "up"),
            (true, cause) => styled(BAD, format!("refuses writes: {cause}")),
        };
        let zone = match node.zone.as_str() {
            "" => String::new(),
            zone => format!(" in {zone}"),
        };
        let incarnation = styled(FAINT, format!("{}{zone}", node.incarnation));
        output::line(&format!(
            "{:name_width$}  {address:address_width$}  {:>10}  {:>4.0}%  {:>6}  {:8}  {state} {incarnation}",
            node.node_id, node.keys_count, node.disk_usage_percent, node.epoch, node.status
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn read(words: &[&str]) -> Result<Vec<(String, String, i32)>, Failure> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let nodes = all_placed(&words)?.into_iter();
        Ok(nodes
            .map(|node| (node.node_id, node.host, node.port))
            .collect())
    }

    #[test]
    fn nodes_are_placed_one_by_one_or_several_at_once() {
        let node = |name: &str, host: &str, port| (name.to_owned(), host.to_owned(), port);
        assert_eq!(read(&["n4", "h", "1"]), Ok(vec![node("n4", "h", 1)]));
        assert_eq!(
            read(&["n4=a:1", "n5=[::1]:2", "n=6=c:3"]),
            Ok(vec![
                node("n4", "a", 1),
                node("n5", "::1", 2),
                node("n=6", "c", 3)
            ])
        );
        for wrong in [
            &["n4"][..],
            &["n4", "h"],
            &["n4", "h", "0"],
            &["n4", "h", "port"],
            &["n4=h"],
            &["n4=h:0"],
        ] {
            assert_eq!(read(wrong).unwrap_err().exit, Exit::Usage, "{wrong:?}");
        }
    }
}
