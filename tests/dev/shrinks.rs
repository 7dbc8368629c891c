//! `deploy/kubernetes/shrink-storage`, as it is shipped, on a cluster of real processes. Kubernetes is a stand-in that
//! runs commands in a coordinator's pod here, knows how many replicas there are, and notes what it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::kit::{Cluster, Done, PROGRAM, Program, Server, until};

const KUBECTL: &str = r#"#!/bin/sh
# A stand-in for kubectl.
[ "$1 $2" = "--namespace pairdb" ] || { echo "no namespace: $*" >&2; exit 1; }
shift 2
case "$1 $2" in
    "exec deploy/pairdb-coordinator")
        [ "$3 $4" = "-- pairdb" ] || exit 1
        shift 4
        echo "pairdb $*" >>"$STAND_IN/told"
        exec "$PROGRAM_UNDER_TEST" "$@" ;;
    "get statefulset") cat "$STAND_IN/replicas" ;;
    *) echo "$*" >>"$STAND_IN/told" ;;
esac
"#;

/// A Kubernetes that is not there.
struct StandIn(TempDir);

impl StandIn {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let kubectl = directory.path().join("kubectl");
        fs::write(&kubectl, KUBECTL).unwrap();
        fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    /// Runs the script where there are so many replicas.
    fn shrink(&self, replicas: usize, to: &str, front: &Server) -> Done {
        let folder = self.0.path();
        fs::write(folder.join("replicas"), replicas.to_string()).unwrap();
        fs::write(folder.join("told"), "").unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/shrink-storage");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = [PathBuf::from(folder)].into_iter();
        let paths = std::env::join_paths(paths.chain(std::env::split_paths(&path))).unwrap();
        // It ends what the script has started, too.
        let mut bounded = Command::new("timeout");
        bounded.args(["--kill-after", "1s", "50s"]).arg(script);
        Program::of(bounded)
            .with(&[to])
            .env("PATH", paths)
            .env("STAND_IN", folder)
            .env("PROGRAM_UNDER_TEST", PROGRAM)
            .env("PAIRDB_SERVER", front.url())
            .run()
    }

    /// What it was told to do.
    fn told(&self) -> Vec<String> {
        let told = fs::read_to_string(self.0.path().join("told")).unwrap();
        told.lines().map(str::to_owned).collect()
    }
}

fn names(front: &Server) -> Vec<String> {
    let nodes = front.ok(&["node", "list"]);
    let nodes = nodes["nodes"].as_array().unwrap().iter();
    let names = nodes.map(|node| node["node"].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn nodes_hand_over_before_their_pods_go() {
    let kubernetes = StandIn::new();
    let cluster = Cluster::on_sqlite(Vec::new())
        .with_few_partitions()
        .started(1, 0);
    let front = cluster.front();
    let metadata = format!("sqlite:{}", cluster.metadata_file().display());
    let (data, url) = (TempDir::new().unwrap(), front.url());
    let node = |number: usize| {
        let name = format!("pairdb-storage-{number}");
        let data = data.path().join(&name);
        let program = Program::new(&["storage", "--node-id", &name, "--listen", "127.0.0.1:0"]);
        let program = program.with(&["--metadata", &metadata, "--join", &url, "--data"]);
        Server::start(program.with(&[data.to_str().unwrap()]))
    };
    let mut nodes: Vec<Server> = (0..5).map(node).collect();
    until("all have joined", || {
        (names(front).len() == 5).then_some(())
    });
    for number in 0..20 {
        front.ok(&["put", &format!("key-{number}"), "value"]);
    }

    kubernetes.shrink(5, "3", front).exits(0);
    let told = kubernetes.told();
    let patch = told.get(2).expect("three things at least").as_str();
    let (before, time) = patch.split_once("3@").expect(patch);
    let (time, after) = time.split_at(time.find('"').unwrap());
    assert!(time.parse::<u64>().is_ok(), "{patch}");
    let expected = [
        "pairdb node list",
        "pairdb node remove pairdb-storage-4 pairdb-storage-3 --wait",
        patch,
        "delete persistentvolumeclaim --ignore-not-found --wait=false data-pairdb-storage-4 data-pairdb-storage-3",
    ];
    assert_eq!(told, expected);
    let annotated = r#"{"metadata":{"annotations":{"pairdb.io/drained-to":""#;
    let kind = "patch statefulset pairdb-storage --type merge --patch ";
    assert_eq!(before, format!("{kind}{annotated}"));
    assert_eq!(after, r#""}},"spec":{"replicas":3}}"#);
    let left = ["pairdb-storage-0", "pairdb-storage-1", "pairdb-storage-2"];
    assert_eq!(names(front), left);
    nodes.truncate(3); // their pods go

    // What they handed over, Kubernetes was not told: it goes on from there.
    kubernetes.shrink(5, "3", front).exits(0);
    let told = kubernetes.told();
    assert_eq!(
        (told.len(), &*told[0], &*told[2]),
        (3, expected[0], expected[3])
    );

    // Where nodes can't go, nothing goes.
    kubernetes
        .shrink(3, "2", front)
        .exits(7)
        .complains("replication factor 3");
    assert_eq!(kubernetes.told().len(), 2, "{:?}", kubernetes.told());
    for wrong in ["3", "4", "0", "-1", "two", "03"] {
        kubernetes.shrink(3, wrong, front).exits(2);
        assert_eq!(kubernetes.told(), [""; 0], "{wrong}");
    }
}
