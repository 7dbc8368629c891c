//! `pairdb node`: the storage nodes of the cluster.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, ClientArgs, Effect, failure};
use super::exit::Failure;
use super::output::{self, BAD, FAINT, GOOD, STRONG, styled};
use super::tenant::migration;
use crate::proto::v1::{
    AddStorageNodeRequest, ListStorageNodesRequest, RemoveStorageNodeRequest, StorageNodeInfo,
};

/// What `node --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb node list
  pairdb node add node-4 10.0.0.4 50052
  pairdb node remove node-4

Nodes change only while no node holds a record: data can't be moved yet.";

/// What to do with a storage node.
#[derive(Subcommand, Debug)]
pub enum NodeCommand {
    /// Add a storage node to the cluster
    #[command(after_help = "Example:\n  pairdb node add node-4 10.0.0.4 50052 --virtual-nodes 300")]
    Add(Add),
    /// Take a storage node out of the cluster
    #[command(after_help = "Example:\n  pairdb node remove node-4")]
    Remove(Remove),
    /// List the storage nodes and how they are
    #[command(after_help = "Example:\n  pairdb node list --json")]
    List(List),
}

/// The arguments of `node add`.
#[derive(Args, Debug)]
pub struct Add {
    /// The node's name, unique for ever
    node: String,
    /// Where coordinators reach it: host name or address
    host: String,
    /// Where coordinators reach it: port
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// How many tokens it has on the ring, in proportion to its share of the data
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(i32).range(1..), value_name = "N")]
    virtual_nodes: i32,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// The arguments of `node remove`.
#[derive(Args, Debug)]
pub struct Remove {
    /// The node's name
    node: String,
    /// Do it even though the node does not answer: what it may hold is given up; one that answers that it holds data
    /// stays
    #[arg(long)]
    force: bool,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
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
            Self::Add(add) => &add.client,
            Self::Remove(remove) => &remove.client,
            Self::List(list) => &list.client,
        }
    }

    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

impl Add {
    async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let added = client
            .add_storage_node(self.client.request(AddStorageNodeRequest {
                node_id: self.node,
                host: self.host,
                port: i32::from(self.port),
                virtual_nodes: self.virtual_nodes,
                zone: String::new(),
            }))
            .await
            .map_err(|status| failure(&status, Effect::Writes))?
            .into_inner();
        changed(
            &self.client,
            "added",
            &added.node_id,
            &added.migration_id,
            &added.message,
        )
    }
}

impl Remove {
    async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let removed = client
            .remove_storage_node(self.client.request(RemoveStorageNodeRequest {
                node_id: self.node,
                force: self.force,
            }))
            .await
            .map_err(|status| failure(&status, Effect::Writes))?
            .into_inner();
        changed(
            &self.client,
            "removed",
            &removed.node_id,
            &removed.migration_id,
            &removed.message,
        )
    }
}

fn changed(
    client: &ClientArgs,
    what: &str,
    node: &str,
    id: &str,
    message: &str,
) -> Result<(), Failure> {
    client.print(
        || json!({ "node": node, "migration_id": migration(id), "message": message }),
        || match message {
            "" => format!("{what}: {node}"),
            message => format!("{what}: {node}; {message}"),
        },
    )
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
    })
}

/// The nodes for people.
pub fn table(nodes: &[StorageNodeInfo]) -> Result<(), Failure> {
    if nodes.is_empty() {
        return output::line("no storage nodes; add one with `pairdb node add NAME HOST PORT`");
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
        let incarnation = styled(FAINT, &node.incarnation);
        output::line(&format!(
            "{:name_width$}  {address:address_width$}  {:>10}  {:>4.0}%  {:>6}  {:8}  {state} {incarnation}",
            node.node_id, node.keys_count, node.disk_usage_percent, node.epoch, node.status
        ))?;
    }
    Ok(())
}
