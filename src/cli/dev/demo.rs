//! `pairdb dev --demo`: a first put and get through the real front, and the same with a storage node gone.

use std::time::{Duration, Instant};

use super::super::client::{self, Client, Effect, failure};
use super::super::exit::Failure;
use super::super::output::{self, GOOD, STRONG, styled};
use super::super::tls::TlsArgs;
use super::cluster::Cluster;
use crate::proto::v1::{ReadKeyValueRequest, WriteKeyValueRequest};

const TENANT: &str = "default";
const KEY: &str = "greeting";
const PATIENCE: Duration = Duration::from_secs(10);

/// Does it and says what it does.
pub async fn run(cluster: &mut Cluster) -> Result<(), Failure> {
    let server = cluster.addresses().grpc;
    let count = cluster.nodes().count();
    output::line(&format!(
        "{} storage nodes and a coordinator at {server}",
        styled(STRONG, count)
    ))?;
    let channel = client::connect(&server.to_string(), &TlsArgs::default(), PATIENCE).await?;
    let mut client = client::client(channel);
    put(&mut client, "hello").await?;
    get(&mut client, "hello").await?;
    if count >= 3
        && let Some(node) = cluster.stop_last_node().await?
    {
        output::line(&format!(
            "{} has stopped; {} of {count} are left",
            styled(STRONG, node),
            count - 1
        ))?;
        get(&mut client, "hello").await?;
        put(&mut client, "hello again").await?;
        get(&mut client, "hello again").await?;
    }
    output::line(&format!(
        "{}; `pairdb dev` keeps one running",
        styled(GOOD, "it works")
    ))
}

async fn put(client: &mut Client, value: &'static str) -> Result<(), Failure> {
    let started = Instant::now();
    let written = client
        .write_key_value(WriteKeyValueRequest {
            tenant_id: TENANT.into(),
            key: KEY.into(),
            value: value.as_bytes().into(),
            ..WriteKeyValueRequest::default()
        })
        .await
        .map_err(|status| failure(&status, Effect::Writes))?
        .into_inner();
    let took = milliseconds(started);
    let (replicas, consistency) = (written.replica_count, written.consistency);
    output::line(&format!(
        "  put {KEY} '{value}': durable on {replicas} replicas ({consistency}), {took}"
    ))
}

async fn get(client: &mut Client, expected: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let read = client
        .read_key_value(ReadKeyValueRequest {
            tenant_id: TENANT.into(),
            key: KEY.into(),
            ..ReadKeyValueRequest::default()
        })
        .await
        .map_err(|status| failure(&status, Effect::Reads))?
        .into_inner();
    let took = milliseconds(started);
    let value = String::from_utf8_lossy(&read.value);
    if value != expected {
        return Err(Failure::local(format!(
            "read '{value}' where '{expected}' was written"
        )));
    }
    output::line(&format!("  get {KEY}: '{value}', {took}"))
}

fn milliseconds(since: Instant) -> String {
    format!("{:.1} ms", since.elapsed().as_secs_f64() * 1000.0)
}
