//! `pairdb delete`: writes "no value".

use clap::Args;
use serde_json::json;

use super::client::{ClientArgs, Effect, failure};
use super::exit::Failure;
use super::key::KeyArgs;
use super::put::replicas;
use super::shell::visible;
use super::{output, value};
use crate::proto::v1::DeleteKeyValueRequest;

/// What `delete --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb delete greeting
  pairdb delete cart --tenant shop --consistency all --json

Deleting a key that has no value succeeds too.";

/// The arguments of `delete`.
#[derive(Args, Debug)]
pub struct Delete {
    #[command(flatten)]
    key: KeyArgs,

    /// All requests of one tenant for one key with this name have one effect and one answer; with another tenant or key
    /// it is another request
    #[arg(long, value_name = "NAME")]
    idempotency_key: Option<String>,

    /// Where and how
    #[command(flatten)]
    pub client: ClientArgs,
}

impl Delete {
    /// Deletes.
    pub async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let request = self.client.request(DeleteKeyValueRequest {
            tenant_id: self.key.tenant.clone(),
            key: self.key.key.clone(),
            consistency: self.key.consistency(),
            idempotency_key: self.idempotency_key.clone(),
            context: self.key.context(),
        });
        let deleted = client
            .delete_key_value(request)
            .await
            .map_err(|status| failure(&status, Effect::Writes))?
            .into_inner();
        if deleted.without_idempotency {
            output::note(
                "the idempotency store is down: a retry with the same key may be a second deletion",
            );
        }
        self.client.print(
            || {
                json!({
                    "tenant": self.key.tenant,
                    "key": self.key.key,
                    "replicas": deleted.replica_count,
                    "consistency": deleted.consistency,
                    "idempotency_key": deleted.idempotency_key,
                    "is_duplicate": deleted.is_duplicate,
                    "without_idempotency": deleted.without_idempotency,
                    "clock": value::clock(deleted.vector_clock.as_ref()),
                    "context": value::base64(&deleted.context),
                })
            },
            || {
                let again = if deleted.is_duplicate { "already " } else { "" };
                let replicas = replicas(deleted.replica_count);
                format!(
                    "{again}deleted: {} on {replicas} ({})",
                    visible(&self.key.key),
                    deleted.consistency
                )
            },
        )
    }
}
