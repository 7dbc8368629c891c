//! `pairdb tenant key`: make, list and revoke the API keys of a tenant.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{ClientArgs, Effect, failure};
use super::exit::Failure;
use super::output::{self, BAD, GOOD, STRONG, styled};
use crate::proto::v1::{ApiKeyInfo, CreateApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest};

/// What `tenant key --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb tenant key create shop
  pairdb tenant key create shop --role tenant-read --json
  pairdb tenant key list shop
  pairdb tenant key revoke shop 5f2c66b0a1d4e937";

/// What to do with a tenant's API keys.
#[derive(Subcommand, Debug)]
pub enum KeyCommand {
    /// Make an API key; its secret is shown this once
    #[command(after_help = "Example:\n  PAIRDB_TOKEN=$ADMIN_KEY pairdb tenant key create shop")]
    Create(Create),
    /// List a tenant's API keys, revoked ones included
    #[command(after_help = "Example:\n  pairdb tenant key list shop --json")]
    List(List),
    /// Make an API key worthless, for good
    #[command(after_help = "Example:\n  pairdb tenant key revoke shop 5f2c66b0a1d4e937")]
    Revoke(Revoke),
}

/// The arguments of `tenant key create`.
#[derive(Args, Debug)]
pub struct Create {
    /// The tenant's name
    tenant: String,
    /// What the key's holder may do; to write includes to read
    #[arg(long, default_value = "tenant-write", value_name = "ROLE",
          value_parser = PossibleValuesParser::new(["tenant-read", "tenant-write"]))]
    role: String,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// The arguments of `tenant key list`.
#[derive(Args, Debug)]
pub struct List {
    /// The tenant's name
    tenant: String,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// The arguments of `tenant key revoke`.
#[derive(Args, Debug)]
pub struct Revoke {
    /// The tenant's name
    tenant: String,
    /// The key's id, the digits between the underscores of the token
    key: String,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

impl KeyCommand {
    /// Where and how.
    pub const fn client(&self) -> &ClientArgs {
        match self {
            Self::Create(create) => &create.client,
            Self::List(list) => &list.client,
            Self::Revoke(revoke) => &revoke.client,
        }
    }

    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let request = CreateApiKeyRequest {
            tenant_id: self.tenant,
            role: self.role,
        };
        let created = client.create_api_key(self.client.request(request)).await;
        let created = created
            .map_err(|status| failure(&status, Effect::Writes))?
            .into_inner();
        let key = created.key.unwrap_or_default();
        self.client.print(
            || {
                let mut shown = to_json(&key);
                shown["token"] = created.token.as_str().into();
                shown
            },
            || {
                format!(
                    "created: {}\n{}\nThe token is shown this once. Send it as `authorization: Bearer TOKEN`, or set PAIRDB_TOKEN.",
                    in_words(&key),
                    styled(STRONG, &created.token)
                )
            },
        )
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let mut keys = Vec::new();
        let mut after = String::new();
        loop {
            let request = ListApiKeysRequest {
                tenant_id: self.tenant.clone(),
                after,
            };
            let page = client.list_api_keys(self.client.request(request)).await;
            let page = page
                .map_err(|status| failure(&status, Effect::Reads))?
                .into_inner();
            if self.client.json {
                keys.extend(page.keys.iter().map(to_json));
            } else {
                for key in &page.keys {
                    output::line(&in_words(key))?;
                }
            }
            after = page.next;
            if after.is_empty() {
                break;
            }
        }
        match self.client.json {
            true => output::json(&json!({ "tenant": self.tenant, "keys": keys })),
            false => Ok(()),
        }
    }
}

impl Revoke {
    async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let request = RevokeApiKeyRequest {
            tenant_id: self.tenant,
            key_id: self.key,
        };
        let revoked = client.revoke_api_key(self.client.request(request)).await;
        let revoked = revoked.map_err(|status| failure(&status, Effect::Writes))?;
        let key = revoked.into_inner().key.unwrap_or_default();
        self.client.print(|| to_json(&key), || in_words(&key))
    }
}

fn in_words(key: &ApiKeyInfo) -> String {
    let state = match key.revoked_at {
        0 => styled(GOOD, "valid"),
        at => styled(BAD, format!("revoked {}", day_and_time(at))),
    };
    let made = day_and_time(key.created_at);
    format!("{}  {:12}  made {made}  {state}", key.key_id, key.role)
}

fn day_and_time(unix_seconds: i64) -> String {
    let since = std::time::Duration::from_secs(unix_seconds.unsigned_abs());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

fn to_json(key: &ApiKeyInfo) -> Value {
    json!({
        "key": key.key_id,
        "tenant": key.tenant_id,
        "role": key.role,
        "created_at": key.created_at,
        "revoked_at": if key.revoked_at == 0 { Value::Null } else { key.revoked_at.into() },
    })
}
