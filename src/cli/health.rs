//! `pairdb health`: does one process serve? For the health check of a container without a shell.

use clap::Args;
use serde_json::json;

use super::client::{ClientArgs, Effect, failure};
use super::exit::{Exit, Failure};
use crate::proto::health::v1::HealthCheckRequest;
use crate::proto::health::v1::health_check_response::ServingStatus;
use crate::proto::health::v1::health_client::HealthClient;

/// What `health --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb health                                  # a coordinator on this machine
  pairdb health --server http://127.0.0.1:50052  # a storage node

Exits with 0 when it serves and with 5 when it does not or can't be reached.";

/// The arguments of `health`.
#[derive(Args, Debug)]
pub struct Health {
    /// Where and how
    #[command(flatten)]
    pub client: ClientArgs,
}

impl Health {
    /// Asks and prints.
    pub async fn run(self) -> Result<(), Failure> {
        let question = self.client.request(HealthCheckRequest {
            service: String::new(),
        });
        let answer = HealthClient::new(self.client.channel().await?)
            .check(question)
            .await;
        let status = answer
            .map_err(|status| failure(&status, Effect::Reads))?
            .into_inner()
            .status();
        if status != ServingStatus::Serving {
            return Err(Failure::new(
                Exit::Unavailable,
                "NOT_READY",
                "it does not serve",
            ));
        }
        self.client
            .print(|| json!({ "serving": true }), || "serving".into())
    }
}
