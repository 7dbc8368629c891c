//! `pairdb tenant`: create, show, change how many replicas a tenant's keys have, and its API keys.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::json;

use super::change::{ChangeArgs, migration};
use super::client::{ClientArgs, Effect, failure};
use super::exit::Failure;
use super::put::replicas;
use super::tenant_key::{self, KeyCommand};
use crate::ports::SiblingLimits;
use crate::proto::v1::{
    ChangeNodesRequest, CreateTenantRequest, GetTenantRequest, GetTenantResponse,
    SetSiblingLimitsRequest, UpdateReplicationFactorRequest,
};

/// What `tenant --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb tenant create shop
  pairdb tenant create carts --replication-factor 5 --conflict-policy siblings
  pairdb tenant get shop --json
  pairdb tenant set-replication shop 5
  pairdb tenant set-sibling-limits carts --warn 8 --max 64
  pairdb tenant key create shop";

const SET_REPLICATION_EXAMPLES: &str = "\
Examples:
  pairdb tenant set-replication shop 5 --dry-run
  pairdb tenant set-replication shop 5 --wait

A migration makes or drops the copies, in the background: see `pairdb migration`.";

/// What to do with a tenant.
#[derive(Subcommand, Debug)]
pub enum TenantCommand {
    /// Create a tenant
    #[command(
        after_help = "Example:\n  pairdb tenant create carts --replication-factor 5 --conflict-policy siblings"
    )]
    Create(Create),
    /// Show a tenant's settings
    #[command(after_help = "Example:\n  pairdb tenant get shop --json")]
    Get(Get),
    /// Change how many replicas a tenant's keys have
    #[command(after_help = SET_REPLICATION_EXAMPLES)]
    SetReplication(SetReplication),
    /// Change how many unresolved siblings a tenant's keys may have
    #[command(after_help = "Example:\n  pairdb tenant set-sibling-limits carts --warn 8 --max 64")]
    SetSiblingLimits(SetSiblingLimits),
    /// Make, list and revoke API keys
    #[command(subcommand, after_help = tenant_key::EXAMPLES)]
    Key(KeyCommand),
}

/// The arguments of `tenant create`.
#[derive(Args, Debug)]
pub struct Create {
    /// The tenant's name: 1 to 255 bytes of printable text without ':'
    tenant: String,
    /// How many replicas its keys have, 1 to 10, and no more than there are storage nodes [default: 3, on as many nodes
    /// as there are]
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..=10), value_name = "N")]
    replication_factor: Option<i32>,
    /// What becomes of concurrent writes: the last one wins, or all are kept and shown
    #[arg(long, default_value = "last_write_wins", value_name = "POLICY",
          value_parser = PossibleValuesParser::new(["last_write_wins", "siblings"]))]
    conflict_policy: String,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// The arguments of `tenant get`.
#[derive(Args, Debug)]
pub struct Get {
    /// The tenant's name
    tenant: String,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// The arguments of `tenant set-replication`.
#[derive(Args, Debug)]
pub struct SetReplication {
    /// The tenant's name
    tenant: String,
    /// How many replicas its keys shall have, 1 to 10
    #[arg(value_parser = clap::value_parser!(i32).range(1..=10))]
    replication_factor: i32,
    /// How it is asked for
    #[command(flatten)]
    change: ChangeArgs,
}

/// The arguments of `tenant set-sibling-limits`.
#[derive(Args, Debug)]
pub struct SetSiblingLimits {
    /// The tenant's name
    tenant: String,
    /// Tell of keys with as many in the log and in a metric, 1 to --max
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(SiblingLimits::HIGHEST)), value_name = "N")]
    warn: u32,
    /// Refuse writes that would leave more, 1 to 256
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(SiblingLimits::HIGHEST)), value_name = "N")]
    max: u32,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

impl TenantCommand {
    /// Where and how.
    pub const fn client(&self) -> &ClientArgs {
        match self {
            Self::Create(create) => &create.client,
            Self::Get(get) => &get.client,
            Self::SetReplication(set) => &set.change.client,
            Self::SetSiblingLimits(set) => &set.client,
            Self::Key(key) => key.client(),
        }
    }

    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Get(get) => get.run().await,
            Self::SetReplication(set) => set.run().await,
            Self::SetSiblingLimits(set) => set.run().await,
            Self::Key(key) => key.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let created = client
            .create_tenant(self.client.request(CreateTenantRequest {
                tenant_id: self.tenant,
                replication_factor: self.replication_factor.unwrap_or(0),
                conflict_policy: self.conflict_policy,
            }))
            .await
            .map_err(|status| failure(&status, Effect::Writes))?
            .into_inner();
        self.client.print(
            || {
                json!({
                    "tenant": created.tenant_id,
                    "replication_factor": created.replication_factor,
                    "replicas_now": created.replicas_now,
                    "conflict_policy": created.conflict_policy,
                    "created_at": created.created_at,
                })
            },
            || {
                describe(
                    "created",
                    &created.tenant_id,
                    (created.replication_factor, created.replicas_now),
                    &created.conflict_policy,
                )
            },
        )
    }
}

impl Get {
    async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let tenant = client
            .get_tenant(self.client.request(GetTenantRequest {
                tenant_id: self.tenant,
            }))
            .await
            .map_err(|status| failure(&status, Effect::Reads))?
            .into_inner();
        print(&self.client, "tenant", &tenant)
    }
}

impl SetSiblingLimits {
    async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let tenant = client
            .set_sibling_limits(self.client.request(SetSiblingLimitsRequest {
                tenant_id: self.tenant,
                siblings_warn: self.warn,
                siblings_max: self.max,
            }))
            .await
            .map_err(|status| failure(&status, Effect::Writes))?
            .into_inner();
        print(&self.client, "changed", &tenant)
    }
}

fn print(client: &ClientArgs, what: &str, tenant: &GetTenantResponse) -> Result<(), Failure> {
    client.print(
        || {
            json!({
                "tenant": tenant.tenant_id,
                "replication_factor": tenant.replication_factor,
                "replicas_now": tenant.replicas_now,
                "conflict_policy": tenant.conflict_policy,
                "siblings_warn": tenant.siblings_warn,
                "siblings_max": tenant.siblings_max,
                "created_at": tenant.created_at,
                "updated_at": tenant.updated_at,
            })
        },
        || {
            let described = describe(
                what,
                &tenant.tenant_id,
                (tenant.replication_factor, tenant.replicas_now),
                &tenant.conflict_policy,
            );
            format!(
                "{described}, at most {} siblings (told of from {})",
                tenant.siblings_max, tenant.siblings_warn
            )
        },
    )
}

impl SetReplication {
    async fn run(self) -> Result<(), Failure> {
        let request = UpdateReplicationFactorRequest {
            tenant_id: self.tenant,
            new_replication_factor: self.replication_factor,
        };
        if self.change.dry_run {
            let factors = vec![request];
            let change = ChangeNodesRequest {
                factors,
                ..ChangeNodesRequest::default()
            };
            return self.change.plan(change).await;
        }
        let args = &self.change.client;
        let mut client = args.connect().await?;
        let changed = client.update_replication_factor(args.request(request));
        let changed = changed.await;
        let changed = changed.map_err(|status| failure(&status, Effect::Writes))?;
        let changed = changed.into_inner();
        let (old, new) = (
            changed.old_replication_factor,
            changed.new_replication_factor,
        );
        let (tenant, id) = (&changed.tenant_id, &changed.migration_id);
        let told = json!({
            "tenant": tenant,
            "old_replication_factor": old,
            "new_replication_factor": new,
            "migration_id": migration(id),
            "updated_at": changed.updated_at,
        });
        let new = replicas(new);
        let line = match id.as_str() {
            "" => format!("{tenant} has {new} already"),
            id => format!("{tenant}: migration {id} leads from {old} to {new}"),
        };
        self.change.asked(id, told, &line).await
    }
}

fn describe(what: &str, tenant: &str, (factor, now): (i32, i32), conflict_policy: &str) -> String {
    let mut replicas = replicas(factor);
    if now < factor {
        replicas += &format!(" ({now} now: there are no more storage nodes)");
    }
    format!("{what}: {tenant}, {replicas}, {conflict_policy}")
}
