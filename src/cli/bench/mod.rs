//! `pairdb bench`: load over gRPC, and what it cost.
//!
//! Each client sends its next request when the last one was answered, so latencies are those of a server that is kept
//! busy by that many clients; or, with `--rate`, when it is due, and latencies count from then: what waits behind a
//! slow answer has waited.

mod args;
mod cpu;
mod load;
mod mix;
mod report;
mod server;
mod tally;

use std::time::Duration;

use indicatif::ProgressBar;

use super::client::{self, Authorization, Client, Effect, failure};
use super::exit::{Exit, Failure};
use super::output;
use crate::proto::v1::CreateTenantRequest;

pub use args::Bench;

use args::TENANT;
use cpu::CpuTimes;
use load::Load;
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
