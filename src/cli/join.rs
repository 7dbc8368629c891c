//! How a storage node that is new becomes part of the cluster by itself: it asks a coordinator to add it.
//!
//! It asks once in the life of its data. A node that left the cluster, or whose migration was cancelled, and that is
//! started again is not to come back unasked with what it once had. So a node asks only while its data was never part
//! of a cluster, or while the file [`MARK`] in its directory says that it has begun to ask and has had no answer yet:
//! a coordinator that is asked has the node promise that it is empty before anything else, and may die after that.
//!
//! It asks no coordinator of another cluster: that one would give it keys, and the node would go by the epochs of its
//! own metadata store.
//!
//! What it is not: whether it can join, which the coordinator says. A node that is refused goes on as it is, which
//! harms nobody, and asks again; each reason is told to its log once.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::client::{Authorization, Client, Effect, TokenArgs, client, connect, failure, request};
use super::exit::Failure;
use super::membership::Membership;
use super::tls::TlsArgs;
use crate::config::{JoinSettings, host_and_port};
use crate::placement::{Node, NodeId, NodeStatus, Topology};
use crate::proto::v1::{AddStorageNodeRequest, ListStorageNodesRequest, StorageNodeInfo};

/// In the data directory of a node that has begun to ask.
const MARK: &str = "joining";
/// How soon it asks again, at first and at last.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A node that asks to be added.
pub struct Join {
    coordinator: String,
    token: Option<Authorization>,
    tls: TlsArgs,
    node: AddStorageNodeRequest,
    mark: Mark,
}

impl Join {
    /// As the configuration says; `None`: it does not ask.
    ///
    /// # Errors
    /// When it could not be found where it would be said to be, or the settings make no sense.
    pub fn of(
        settings: &JoinSettings,
        id: &NodeId,
        advertised: &str,
        listens: std::net::SocketAddr,
        data: &Path,
    ) -> Result<Option<Self>, Failure> {
        if settings.coordinator.is_empty() {
            return Ok(None);
        }
        let (host, port) = match advertised {
            "" if listens.ip().is_unspecified() => {
                return Err(Failure::usage(
                    "--join: the node does not know where it can be reached",
                )
                .hint("say it with --advertise HOST:PORT"));
            }
            "" => (listens.ip().to_string(), listens.port()),
            address => host_and_port(address).map_err(Failure::usage)?,
        };
        let zone = Some(settings.zone.as_str()).filter(|zone| !zone.is_empty());
        let node = Node {
            id: id.clone(),
            host: host.clone(),
            port,
            virtual_nodes: settings.virtual_nodes,
            status: NodeStatus::Active,
            zone: zone.map(Into::into),
            seat: None,
        };
        node.validate()
            .map_err(|error| Failure::usage(format!("join: {error}")))?;
        let ca = Some(settings.ca_file.as_str()).filter(|file| !file.is_empty());
        Ok(Some(Self {
            coordinator: settings.coordinator.clone(),
            token: TokenArgs::of(settings.token.clone()).header()?,
            tls: TlsArgs::of_authority(ca.map(PathBuf::from)),
            node: AddStorageNodeRequest {
                node_id: id.as_str().into(),
                host,
                port: port.into(),
                virtual_nodes: i32::try_from(settings.virtual_nodes).unwrap_or(i32::MAX),
                zone: settings.zone.clone(),
            },
            mark: Mark(data.join(MARK)),
        }))
    }

    /// Asks until the node is part of the cluster, or is about to be. `is_new` says whether its data was never part of
    /// one.
    pub async fn run(&self, membership: &Membership, is_new: bool) {
        let mut pause = PAUSE_MIN;
        let mut told = String::new();
        loop {
            match self.attempt(membership, is_new).await {
                Ok(Some(message)) => {
                    let node = &self.node.node_id;
                    tracing::info!(%node, message, "the coordinator adds the node to the cluster");
                    return;
                }
                Ok(None) => return,
                Err(why) if why == told => {}
                Err(why) => {
                    tracing::warn!(
                        coordinator = self.coordinator,
                        why,
                        "not added to the cluster yet"
                    );
                    told = why;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks once. `None`: there is nothing to ask for. The error says why it has to be tried again.
    async fn attempt(
        &self,
        membership: &Membership,
        is_new: bool,
    ) -> Result<Option<String>, String> {
        let topology = membership.topology().await.map_err(in_words)?;
        let broken = |error: io::Error| format!("{}: {error}", self.mark.0.display());
        if topology.node(membership.id()).is_some() {
            self.mark.remove().map_err(broken)?;
            return Ok(None);
        }
        if !is_new && !self.mark.is_there().map_err(broken)? {
            return Ok(None); // what it is has been told
        }
        let channel = connect(&self.coordinator, &self.tls, ANSWER_MAX).await;
        let mut client = client(channel.map_err(in_words)?);
        self.is_of_cluster(&mut client, &topology).await?;
        self.mark.make().map_err(broken)?;
        let asked = request(self.node.clone(), ANSWER_MAX, self.token.as_ref());
        let added = client.add_storage_node(asked).await;
        let added = added.map_err(|status| in_words(failure(&status, Effect::Writes)))?;
        self.mark.remove().map_err(broken)?;
        Ok(Some(added.into_inner().message))
    }

    /// Whether the coordinator is of the cluster that the node's metadata store is of.
    async fn is_of_cluster(&self, client: &mut Client, own: &Topology) -> Result<(), String> {
        let asked = request(ListStorageNodesRequest {}, ANSWER_MAX, self.token.as_ref());
        let listed = client.list_storage_nodes(asked).await;
        let listed = listed.map_err(|status| in_words(failure(&status, Effect::Reads)))?;
        match is_same_cluster(&listed.into_inner().nodes, own) {
            true => Ok(()),
            false => Err(
                "the coordinator has none of the storage nodes that the node's own metadata store has; is it of \
                 another cluster?"
                    .into(),
            ),
        }
    }
}

/// Whether two views, one of which may be somewhat older, can be of one cluster: both are of none, or they have a node
/// in common.
fn is_same_cluster(listed: &[StorageNodeInfo], own: &Topology) -> bool {
    let is_known = |info: &StorageNodeInfo| {
        let mut nodes = own.nodes.iter();
        nodes.any(|node| {
            (node.id.as_str(), &node.host, i32::from(node.port))
                == (info.node_id.as_str(), &info.host, info.port)
        })
    };
    match (listed, own.nodes.as_slice()) {
        ([], []) => true,
        (listed, _) => listed.iter().any(is_known),
    }
}

fn in_words(failure: Failure) -> String {
    failure.to_string()
}

/// A file that is there while the node asks.
struct Mark(PathBuf);

impl Mark {
    fn is_there(&self) -> io::Result<bool> {
        self.0.try_exists()
    }

    fn make(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600);
        file.open(&self.0)?.sync_all()?;
        self.sync_directory()
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| self.sync_directory()),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        let directory = self.0.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use crate::placement::Epoch;

    fn listed(node_id: &str, port: i32) -> StorageNodeInfo {
        StorageNodeInfo {
            node_id: node_id.into(),
            host: "h".into(),
            port,
            ..StorageNodeInfo::default()
        }
    }

    fn topology(nodes: &[(&str, u16)]) -> Topology {
        let nodes = nodes.iter().map(|(id, port)| Node {
            id: NodeId::new(*id).unwrap(),
            host: "h".into(),
            port: *port,
            virtual_nodes: 1,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        });
        Topology {
            nodes: nodes.collect(),
            ..Topology::new(Epoch(1), 8, Vec::new()).unwrap()
        }
    }

    #[test]
    fn clusters_are_told_apart_by_their_nodes() {
        assert!(is_same_cluster(&[], &topology(&[])));
        let own = topology(&[("a", 1), ("b", 2)]);
        assert!(is_same_cluster(&[listed("b", 2), listed("c", 3)], &own));
        for other in [&[][..], &[listed("a", 9)], &[listed("c", 1)]] {
            assert!(!is_same_cluster(other, &own), "{other:?}");
        }
        assert!(!is_same_cluster(&[listed("a", 1)], &topology(&[])));
    }

    #[test]
    fn a_mark_is_made_and_removed_as_often_as_one_likes() {
        let directory = tempfile::tempdir().unwrap();
        let mark = Mark(directory.path().join(MARK));
        mark.remove().unwrap();
        for _ in 0..2 {
            mark.make().unwrap();
            assert!(mark.is_there().unwrap());
        }
        for _ in 0..2 {
            mark.remove().unwrap();
            assert!(!mark.is_there().unwrap());
        }
    }

    #[test]
    fn a_node_that_asks_can_be_found() {
        let id = NodeId::new("n").unwrap();
        let join = |coordinator: &str, advertised: &str, listens: &str, virtual_nodes: u32| {
            let settings = JoinSettings {
                coordinator: coordinator.into(),
                virtual_nodes,
                ..JoinSettings::default()
            };
            let listens = listens.parse().unwrap();
            let join = Join::of(&settings, &id, advertised, listens, Path::new("data"));
            join.map(|join| join.map(|join| (join.node.host, join.node.port)))
        };
        let url = "http://h:1";
        let at = |host: &str, port| Ok(Some((host.to_owned(), port)));
        assert_eq!(join("", "", "0.0.0.0:1", 1), Ok(None), "it does not ask");
        assert_eq!(join(url, "a:2", "0.0.0.0:1", 1), at("a", 2));
        assert_eq!(join(url, "", "10.0.0.1:1", 1), at("10.0.0.1", 1));
        for wrong in [
            join(url, "", "0.0.0.0:1", 1),
            join(url, "", "[::]:1", 1),
            join(url, "a:2", "0.0.0.0:1", 0),
        ] {
            assert_eq!(wrong.unwrap_err().exit, Exit::Usage);
        }
    }
}
