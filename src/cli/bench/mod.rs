//! `pairdb bench`: load over gRPC, and what it cost.
//!
//! Each client sends its next request when the last one was answered, so latencies are those of a server that is kept
//! busy by that many clients; or, with `--rate`, when it is due, and latencies count from then: what waits behind a
//! slow answer has waited.

mod cpu;
mod load;
mod mix;
mod report;
mod server;
mod tally;

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use indicatif::ProgressBar;

use super::bounds::patience;
use super::client::{self, Authorization, Client, Effect, TokenArgs, failure};
use super::exit::{Exit, Failure};
use super::output;
use super::tls::TlsArgs;
use crate::proto::v1::CreateTenantRequest;

use cpu::CpuTimes;
use load::Load;
use mix::Mix;
use report::Report;
use server::Server;

/// What `bench --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb bench --spawn-dev                                # starts its own cluster, and measures its CPU too
  pairdb bench --spawn-dev --mix write=1 --seconds 30 --json
  pairdb bench --server http://127.0.0.1:50051 --clients 256 --value-bytes 1024
  pairdb bench --server http://127.0.0.1:50051 --rate 2000

It writes to the tenant 'bench', which it creates if need be. A spawned cluster keeps its data below
TMPDIR; that must be on the disk that is meant, not in memory.";

/// The tenant it works on.
const TENANT: &str = "bench";

/// The arguments of `bench`.
#[derive(Args, Clone, Debug)]
pub struct Bench {
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

    /// Start a cluster for the measurement instead (`pairdb dev --ephemeral`)
    #[arg(long)]
    spawn_dev: bool,

    /// How many storage nodes the started cluster has
    #[arg(long, default_value_t = 3, value_name = "N", requires = "spawn_dev", value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,

    /// The server's process, to tell its CPU time per operation
    #[arg(long, value_name = "PID", conflicts_with = "spawn_dev")]
    server_pid: Option<u32>,

    /// How many clients, each with one request at a time
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,

    /// How many connections they share
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,

    /// How many requests a second, from all clients; 0: as many as are answered
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    rate: u32,

    /// How long a value is
    #[arg(long, default_value_t = 100, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=32 * 1024 * 1024))]
    value_bytes: usize,

    /// How many keys there are; all are written before the measurement
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    keys: u64,

    /// How long to measure
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=7 * 24 * 3600))]
    seconds: u64,

    /// How long to warm up before; not measured
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    warm_up: u64,

    /// What to do, in which proportion
    #[arg(long, default_value = "write=1,read=1", value_name = "write=N,read=N")]
    mix: Mix,

    /// How many replicas must answer
    #[arg(long, default_value = "quorum", value_name = "LEVEL",
          value_parser = PossibleValuesParser::new(["one", "quorum", "all"]))]
    consistency: String,

    /// How long each request may take
    #[arg(long, default_value = "10s", value_parser = patience, value_name = "DURATION")]
    timeout: Duration,

    /// The result as one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Bench {
    /// Measures.
    pub async fn run(self) -> Result<(), Failure> {
        let server = match self.spawn_dev {
            true => Server::spawn(self.nodes).await?,
            false => Server::given(&self.server, self.server_pid),
        };
        let measured = self.measure(&server).await;
        server.stop().await?;
        let report = measured?;
        if self.json {
            output::json(&report.to_json())?;
        } else {
            report.print()?;
        }
        match report.done() {
            0 => Err(Failure::new(
                Exit::Unavailable,
                "NOTHING_DONE",
                "no operation succeeded",
            )),
            _ => Ok(()),
        }
    }

    async fn measure(&self, server: &Server) -> Result<Report, Failure> {
        let mut clients = Vec::new();
        for _ in 0..self.connections.min(self.clients) {
            clients.push(client::client(
                client::connect(server.url(), &self.tls, self.timeout).await?,
            ));
        }
        let token = self.token.header()?;
        self.make_tenant(&mut clients[0].clone(), token.as_ref())
            .await?;
        let load = Load::new(self, token, clients);
        let line = output::progress("{msg}");
        line.set_message("writing every key once ...");
        load.fill().await?;
        let mut running = load.start();
        let warm_up = Duration::from_secs(self.warm_up);
        wait(&line, "warming up", warm_up, &running).await;

        running.begin();
        let (server_before, own_before) = (server.cpu(), CpuTimes::of_self());
        let seconds = Duration::from_secs(self.seconds);
        wait(&line, "measuring", seconds, &running).await;
        let (server_after, own_after) = (server.cpu(), CpuTimes::of_self());
        let (tally, took) = running.end().await;
        line.finish_and_clear();
        let span = |before: Option<CpuTimes>, after: Option<CpuTimes>| Some(after?.since(&before?));
        Ok(Report {
            bench: self.clone(),
            took,
            tally,
            server: span(server_before, server_after),
            client: span(own_before, own_after),
        })
    }

    async fn make_tenant(
        &self,
        client: &mut Client,
        token: Option<&Authorization>,
    ) -> Result<(), Failure> {
        let message = CreateTenantRequest {
            tenant_id: TENANT.into(),
            ..CreateTenantRequest::default()
        };
        let request = client::request(message, self.timeout, token);
        match client
            .create_tenant(request)
            .await
            .map_err(|status| failure(&status, Effect::Writes))
        {
            // A tenant's own key may not create it; whether it is there, the first write tells.
            Err(failure) if !matches!(failure.exit, Exit::Conflict | Exit::Refused) => Err(failure),
            _ => Ok(()),
        }
    }
}

/// Waits, with a line on a terminal that shows that something happens.
async fn wait(line: &ProgressBar, what: &str, time: Duration, running: &load::Running) {
    let mut done_before = running.done();
    for second in 1..=time.as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let done = running.done();
        let (seconds, rate) = (time.as_secs(), done - done_before);
        line.set_message(format!(
            "{what}: {second} of {seconds} s, {rate} operations/s"
        ));
        done_before = done;
    }
}
