//! What every [`MetadataStore`] does: tenants by version, API keys, the topology by epoch, a hint when either changes,
//! migrations, and leases.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;

use super::outcomes::{exactly_one_made, ok};
use super::{migrations, within};
use crate::placement::{
    ChangeId, ChangeRequest, Epoch, FactorChange, Node, NodeChange, NodeId, NodeStatus,
    PartitionId, Topology,
};
use crate::ports::{
    ApiKey, ApiKeyId, Change, Clock, LeaseOutcome, MetadataEvent, MetadataStore, SiblingLimits,
    Tenant, TenantId, TenantRole,
};
use crate::quorum::{ConflictPolicy, Consistency};

/// Longer than any suite runs.
const LONG: Duration = Duration::from_secs(3600);

/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(20);

/// Panics unless the stores made by `fresh` keep to [`MetadataStore`]. A fresh store may have the default tenant.
pub async fn metadata_store<S: MetadataStore>(fresh: impl AsyncFn() -> S, clock: &impl Clock) {
    tenants_are_created_once(&fresh().await).await;
    every_setting_comes_back(&fresh().await).await;
    updates_need_the_stored_version(&fresh().await).await;
    of_many_updates_one_is_made(&fresh().await).await;
    tenants_come_in_pages(&fresh().await).await;
    keys_are_created_once(&fresh().await).await;
    a_revoked_key_stays_revoked(&fresh().await).await;
    keys_come_in_pages(&fresh().await).await;
    the_topology_starts_empty(&fresh().await).await;
    the_topology_changes_by_its_epoch(&fresh().await).await;
    epochs_grow(&fresh().await).await;
    of_many_topologies_one_is_stored(&fresh().await).await;
    changes_are_told(&fresh().await, clock).await;
    changed_keys_are_told(&fresh().await, clock).await;
    a_watcher_that_lags_knows_it(&fresh().await, clock).await;
    a_change_of_owners_comes_back(&fresh().await).await;
    migrations::conform(&fresh).await;
    a_lease_has_one_holder(&fresh().await).await;
    a_lease_ends_by_itself(&fresh().await, clock).await;
    of_many_holders_one_gets_the_lease(&fresh().await, clock).await;
}

/// Panics unless a store that was made for a new installation has the default tenant and no other.
pub async fn default_tenant(store: &impl MetadataStore) {
    let tenants = ok(store.tenants(None, 10).await);
    let [tenant] = &tenants[..] else {
        panic!("a new store has {tenants:?}")
    };
    let Tenant {
        created_at,
        updated_at,
        ..
    } = *tenant;
    assert_eq!(
        *tenant,
        Tenant {
            created_at,
            updated_at,
            ..Tenant::default_at(0)
        }
    );
    assert_eq!(ok(store.tenant(&tenant.id).await).as_ref(), Some(tenant));
}

async fn tenants_are_created_once(store: &impl MetadataStore) {
    let a = tenant("a");
    assert_eq!(ok(store.tenant(&a.id).await), None);
    let made = ok(store
        .create_tenant(Tenant {
            version: 7,
            ..a.clone()
        })
        .await);
    assert_eq!(
        made,
        Change::Made(Tenant {
            version: 1,
            ..a.clone()
        }),
        "versions start at 1"
    );
    let again = Tenant {
        replication_factor: 5,
        ..a.clone()
    };
    assert_eq!(
        ok(store.create_tenant(again).await),
        Change::Conflict(Some(a.clone()))
    );
    assert_eq!(ok(store.tenant(&a.id).await), Some(a));

    let racers = (1..=10).map(|r| {
        let store = store.clone();
        async move {
            ok(store
                .create_tenant(Tenant {
                    replication_factor: r,
                    ..tenant("raced")
                })
                .await)
        }
    });
    let outcomes = join_all(racers).await;
    let stored = ok(store.tenant(&tenant("raced").id).await).expect("one was created");
    exactly_one_made(&outcomes, &stored);
}

async fn every_setting_comes_back(store: &impl MetadataStore) {
    let levels = [
        None,
        Some(Consistency::One),
        Some(Consistency::Quorum),
        Some(Consistency::All),
    ];
    let policies = [ConflictPolicy::LastWriteWins, ConflictPolicy::Siblings];
    let names = [
        "x",
        "Ünïcödé \u{1F600}",
        "'; drop table tenants --",
        "%_\\",
        "a/b c",
        &"n".repeat(255),
    ];
    for (n, name) in names.into_iter().enumerate() {
        let set = Tenant {
            replication_factor: 1 + n as u8,
            conflict_policy: policies[n % 2],
            default_consistency: levels[n % 4],
            siblings: SiblingLimits::new(n as u32 % 7 + 1, 200 + n as u32 % 50).expect("in range"),
            created_at: -1 + n as i64,
            updated_at: 4_102_444_800 + n as i64,
            ..tenant(name)
        };
        assert_eq!(
            ok(store.create_tenant(set.clone()).await),
            Change::Made(set.clone())
        );
        assert_eq!(ok(store.tenant(&set.id).await), Some(set));
    }
}

async fn updates_need_the_stored_version(store: &impl MetadataStore) {
    let absent = tenant("absent");
    assert_eq!(
        ok(store.update_tenant(absent.clone()).await),
        Change::Conflict(None)
    );
    assert_eq!(
        ok(store.tenant(&absent.id).await),
        None,
        "an update creates nothing"
    );

    let first = tenant("changing");
    ok(store.create_tenant(first.clone()).await);
    ok(store.create_tenant(tenant("bystander")).await);
    let change = Tenant {
        replication_factor: 5,
        conflict_policy: ConflictPolicy::Siblings,
        default_consistency: Some(Consistency::All),
        siblings: SiblingLimits { warn: 2, max: 3 },
        updated_at: 99,
        ..first.clone()
    };
    let second = Tenant {
        version: 2,
        ..change.clone()
    };
    assert_eq!(
        ok(store.update_tenant(change.clone()).await),
        Change::Made(second.clone())
    );
    assert_eq!(ok(store.tenant(&first.id).await), Some(second.clone()));
    for version in [0, 1, 3, u64::MAX] {
        let stale = Tenant {
            version,
            replication_factor: 1,
            ..first.clone()
        };
        assert_eq!(
            ok(store.update_tenant(stale).await),
            Change::Conflict(Some(second.clone())),
            "version {version}"
        );
    }
    let third = Tenant {
        version: 3,
        ..second.clone()
    };
    assert_eq!(
        ok(store.update_tenant(second).await),
        Change::Made(third.clone())
    );
    assert_eq!(ok(store.tenant(&first.id).await), Some(third));
    assert_eq!(
        ok(store.tenant(&tenant("bystander").id).await),
        Some(tenant("bystander"))
    );
}

async fn of_many_updates_one_is_made(store: &impl MetadataStore) {
    let first = tenant("contended");
    ok(store.create_tenant(first.clone()).await);
    let racers = (1..=10).map(|r| {
        let (store, first) = (store.clone(), first.clone());
        async move {
            ok(store
                .update_tenant(Tenant {
                    replication_factor: r,
                    ..first
                })
                .await)
        }
    });
    let outcomes = join_all(racers).await;
    let stored = ok(store.tenant(&first.id).await).expect("it exists");
    assert_eq!(stored.version, 2);
    exactly_one_made(&outcomes, &stored);
}

async fn tenants_come_in_pages(store: &impl MetadataStore) {
    let mut ids: Vec<TenantId> = ok(store.tenants(None, 10).await)
        .into_iter()
        .map(|tenant| tenant.id)
        .collect();
    for n in 0..25 {
        // Not in order, of several lengths and cases: the order is that of the names' bytes.
        let name = format!("{}{}", ["t", "T", "tt", "é", "~"][n % 5], (n * 7) % 25);
        ok(store.create_tenant(tenant(&name)).await);
        ids.push(tenant(&name).id);
    }
    ids.sort();
    let mut paged: Vec<TenantId> = Vec::new();
    loop {
        let page = ok(store.tenants(paged.last(), 7).await);
        assert!(page.len() <= 7);
        if page.is_empty() {
            break;
        }
        paged.extend(page.into_iter().map(|tenant| tenant.id));
        assert!(paged.len() <= ids.len(), "pages overlap: {paged:?}");
    }
    assert_eq!(paged, ids);
    assert_eq!(ok(store.tenants(None, 0).await), []);
    assert_eq!(ok(store.tenants(None, usize::MAX).await).len(), ids.len());
    let between = tenant("t0!").id; // not there itself
    let after = ok(store.tenants(Some(&between), 1).await);
    assert_eq!(
        after[0].id,
        *ids.iter()
            .find(|id| **id > between)
            .expect("there are later ones")
    );
}

async fn keys_are_created_once(store: &impl MetadataStore) {
    let first = key("shop", 1);
    assert_eq!(ok(store.api_key(&first.id).await), None);
    let made = ok(store.create_api_key(first.clone()).await);
    assert_eq!(made, Change::Made(first.clone()));
    let again = ApiKey {
        tenant: tenant("other").id,
        role: TenantRole::Read,
        ..first.clone()
    };
    assert_eq!(
        ok(store.create_api_key(again).await),
        Change::Conflict(Some(first.clone()))
    );
    let revoked = ApiKey {
        role: TenantRole::Read,
        secret_hash: [0xff; 32],
        created_at: -1,
        revoked_at: Some(4_102_444_800),
        ..key("Ünïcödé '; drop table api_keys --", u64::MAX)
    };
    ok(store.create_api_key(revoked.clone()).await);
    for key in [first, revoked] {
        assert_eq!(ok(store.api_key(&key.id).await), Some(key));
    }
}

async fn a_revoked_key_stays_revoked(store: &impl MetadataStore) {
    let valid = key("shop", 1);
    let (shop, other) = (valid.tenant.clone(), tenant("other").id);
    assert_eq!(ok(store.revoke_api_key(&shop, &valid.id, 5).await), None);
    assert_eq!(ok(store.api_key(&valid.id).await), None, "nothing is made");
    ok(store.create_api_key(valid.clone()).await);
    ok(store.create_api_key(key("shop", 2)).await);
    assert_eq!(
        ok(store.revoke_api_key(&other, &valid.id, 5).await),
        None,
        "another tenant has no such key"
    );
    let revoked = ApiKey {
        revoked_at: Some(7),
        ..valid.clone()
    };
    for time in [7, 8] {
        let outcome = ok(store.revoke_api_key(&shop, &valid.id, time).await);
        assert_eq!(outcome.as_ref(), Some(&revoked), "at {time}");
        assert_eq!(ok(store.api_key(&valid.id).await).as_ref(), Some(&revoked));
    }
    assert_eq!(
        ok(store.create_api_key(valid).await),
        Change::Conflict(Some(revoked)),
        "its id is taken for ever"
    );
    let bystander = ok(store.api_key(&key("shop", 2).id).await);
    assert_eq!(bystander, Some(key("shop", 2)));
}

async fn keys_come_in_pages(store: &impl MetadataStore) {
    for n in 0..10 {
        ok(store.create_api_key(key("mine", n * 7 % 10)).await);
        ok(store.create_api_key(key("theirs", 100 + n)).await);
    }
    let mine = tenant("mine").id;
    let mut paged: Vec<ApiKey> = Vec::new();
    loop {
        let after = paged.last().map(|key| key.id.clone());
        let page = ok(store.api_keys(&mine, after.as_ref(), 3).await);
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, (0..10).map(|n| key("mine", n)).collect::<Vec<_>>());
    let nobody = tenant("nobody").id;
    assert_eq!(ok(store.api_keys(&nobody, None, usize::MAX).await), []);
}

async fn the_topology_starts_empty(store: &impl MetadataStore) {
    let topology = ok(store.topology().await);
    assert_eq!((topology.epoch, topology.nodes.len()), (Epoch(0), 0));
    assert_eq!(topology.validate(), Ok(()));
}

async fn the_topology_changes_by_its_epoch(store: &impl MetadataStore) {
    let first = topology(1, &["a", "b", "c"]);
    assert_eq!(
        ok(store.replace_topology(Epoch(0), first.clone()).await),
        Change::Made(first.clone())
    );
    assert_eq!(ok(store.topology().await), first);

    let second = topology(2, &["a", "c", "d"]);
    for expected in [0, 2, 3].map(Epoch) {
        let next = Topology {
            epoch: Epoch(9),
            ..second.clone()
        };
        assert_eq!(
            ok(store.replace_topology(expected, next).await),
            Change::Conflict(Some(first.clone()))
        );
    }
    assert_eq!(ok(store.topology().await), first);
    assert_eq!(
        ok(store.replace_topology(Epoch(1), second.clone()).await),
        Change::Made(second.clone())
    );
    assert_eq!(
        ok(store.topology().await),
        second,
        "the nodes are exactly the new ones"
    );
    let new = tenant("later");
    ok(store.create_tenant(new.clone()).await);
    let found = ok(store.tenant_and_epoch(&new.id).await);
    let (found, epoch) = found.expect("it was created");
    assert_eq!(
        (found.id, epoch),
        (new.id, second.epoch),
        "a tenant is told of with the epoch at its side"
    );

    let leap = Topology {
        epoch: Epoch(1 << 40),
        ..topology(0, &[])
    };
    assert_eq!(
        ok(store.replace_topology(Epoch(2), leap.clone()).await),
        Change::Made(leap.clone())
    );
    assert_eq!(ok(store.topology().await), leap);
}

async fn epochs_grow(store: &impl MetadataStore) {
    let stored = topology(5, &["a"]);
    ok(store.replace_topology(Epoch(0), stored.clone()).await);
    for epoch in [0, 4, 5] {
        let change = ok(store
            .replace_topology(Epoch(5), topology(epoch, &["b"]))
            .await);
        assert_eq!(
            change,
            Change::Conflict(Some(stored.clone())),
            "epoch {epoch} after 5"
        );
    }
    assert_eq!(ok(store.topology().await), stored);
}

async fn of_many_topologies_one_is_stored(store: &impl MetadataStore) {
    for expected in 0..3 {
        let racers = (0..10).map(|n| {
            let (store, next) = (
                store.clone(),
                topology(expected + 1, &[&format!("node-{n}"), "common"]),
            );
            async move { ok(store.replace_topology(Epoch(expected), next).await) }
        });
        let outcomes = join_all(racers).await;
        exactly_one_made(&outcomes, &ok(store.topology().await));
    }
}

/// A topology comes back with zones and seats, and with the change under way after each of its steps.
async fn a_change_of_owners_comes_back(store: &impl MetadataStore) {
    let mut first = topology(1, &["a", "b", "c"]);
    first.nodes[0].zone = Some("rack-1/eu-'x'".to_owned());
    first.nodes[1].seat = Some("z#2".to_owned());
    first.nodes[2].status = NodeStatus::Active;
    ok(store.replace_topology(Epoch(0), first.clone()).await);
    assert_eq!(ok(store.topology().await), first);

    let mut by = topology(1, &["d"]).nodes.remove(0);
    by.zone = Some("rack-2".to_owned());
    let id = first.nodes[0].id.clone();
    let force = false;
    let request = ChangeRequest {
        nodes: vec![NodeChange::Replace { id, by, force }],
        factors: Vec::new(),
    };
    let factor = FactorChange {
        tenant: "Ünïcödé \u{1F600} \" tenant".into(),
        from: 2,
        to: 3,
    };
    let id = ChangeId::of_number(u64::MAX);
    let begun = first.begun(id, &request, vec![factor]);
    let begun = begun.expect("a replacement that can begin");
    let all: BTreeSet<PartitionId> = (0..64).map(PartitionId).collect();
    let some = all.iter().copied().filter(|partition| partition.0 % 3 == 0);
    let mut stages = vec![first, begun];
    for partitions in [some.collect(), all.clone(), all.clone()] {
        let stepped = stages[stages.len() - 1].stepped(&partitions);
        stages.push(stepped.expect("partitions that can step"));
    }
    stages.push(
        stages[4]
            .cancelled()
            .expect("a change that can be cancelled"),
    );
    for pair in stages.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let made = ok(store.replace_topology(before.epoch, after.clone()).await);
        assert_eq!(made, Change::Made(after.clone()));
        assert_eq!(ok(store.topology().await), *after);
        let late = ok(store.replace_topology(before.epoch, after.clone()).await);
        assert_eq!(late, Change::Conflict(Some(after.clone())));
    }

    let last = &stages[stages.len() - 1];
    let over = Topology {
        epoch: Epoch(100),
        factors_since: Epoch(1 << 40),
        change: None,
        ..last.clone()
    };
    ok(store.replace_topology(last.epoch, over.clone()).await);
    assert_eq!(ok(store.topology().await), over, "the change is gone");
}

async fn changes_are_told(store: &impl MetadataStore, clock: &impl Clock) {
    let (mut one, mut other) = (store.watch(), store.watch());
    let watched = tenant("watched");
    ok(store.create_tenant(watched.clone()).await);
    for events in [&mut one, &mut other] {
        told(events, MetadataEvent::Tenant(watched.id.clone()), clock).await;
    }
    let mut late = store.watch();
    ok(store.replace_topology(Epoch(0), topology(3, &["a"])).await);
    for events in [&mut one, &mut other, &mut late] {
        told(events, MetadataEvent::Topology(Epoch(3)), clock).await;
    }
    drop(one);
    ok(store.update_tenant(watched.clone()).await);
    told(&mut other, MetadataEvent::Tenant(watched.id), clock).await;
}

/// Who takes events too slowly is told of every change, or that it was not.
async fn a_watcher_that_lags_knows_it(store: &impl MetadataStore, clock: &impl Clock) {
    const CHANGES: usize = 400;
    let mut events = store.watch();
    for n in 0..CHANGES {
        ok(store.create_tenant(tenant(&format!("of-many-{n}"))).await);
    }
    let last = tenant("the-last-one");
    ok(store.create_tenant(last.clone()).await);
    let (mut told, mut missed) = (BTreeSet::new(), false);
    let search = async {
        while let Some(event) = events.next().await {
            match event {
                MetadataEvent::Missed => missed = true,
                MetadataEvent::Tenant(id) if id == last.id => return,
                MetadataEvent::Tenant(id) => drop(told.insert(id)),
                _ => {}
            }
        }
        panic!("the watch ended before the store");
    };
    within(clock, "to be told of the last change", search).await;
    let told = told.len();
    assert!(missed || told == CHANGES, "{told} of {CHANGES} were told");
}

async fn changed_keys_are_told(store: &impl MetadataStore, clock: &impl Clock) {
    let mut events = store.watch();
    let watched = key("shop", 9);
    ok(store.create_api_key(watched.clone()).await);
    told(
        &mut events,
        MetadataEvent::ApiKey(watched.id.clone()),
        clock,
    )
    .await;
    ok(store.create_tenant(tenant("between")).await);
    let mut late = store.watch();
    ok(store.revoke_api_key(&watched.tenant, &watched.id, 7).await);
    for events in [&mut events, &mut late] {
        told(events, MetadataEvent::ApiKey(watched.id.clone()), clock).await;
    }
}

async fn a_lease_has_one_holder(store: &impl MetadataStore) {
    // Every bit of a holder counts.
    for (one, other) in [
        (1, 2),
        (0, u64::MAX),
        (1 << 63, 0),
        (u64::MAX, i64::MAX as u64),
    ] {
        let name = format!("of {one} or {other}");
        ok(store.release_lease(&name, one).await); // nothing there: nothing to do
        for _ in 0..2 {
            assert_eq!(
                ok(store.acquire_lease(&name, one, LONG).await),
                LeaseOutcome::Held
            );
            held_by_other(ok(store.acquire_lease(&name, other, LONG).await), one);
        }
        ok(store.release_lease(&name, other).await);
        held_by_other(ok(store.acquire_lease(&name, other, LONG).await), one);
        ok(store.release_lease(&name, one).await);
        assert_eq!(
            ok(store.acquire_lease(&name, other, LONG).await),
            LeaseOutcome::Held
        );
        held_by_other(ok(store.acquire_lease(&name, one, LONG).await), other);
    }
    for name in [
        "",
        "other",
        "Other",
        "'; drop table leases --",
        "\u{1F600}",
        &"n".repeat(255),
    ] {
        assert_eq!(
            ok(store.acquire_lease(name, 7, LONG).await),
            LeaseOutcome::Held,
            "{name:?}"
        );
    }
    let for_ever = ok(store.acquire_lease("for ever", 1, Duration::MAX).await);
    assert_eq!(for_ever, LeaseOutcome::Held);
    let after_for_ever = ok(store.acquire_lease("for ever", 2, LONG).await);
    assert!(
        matches!(after_for_ever, LeaseOutcome::HeldByOther { holder: 1, remaining } if remaining >= LONG)
    );
}

fn held_by_other(outcome: LeaseOutcome, awaited: u64) {
    let LeaseOutcome::HeldByOther { holder, remaining } = outcome else {
        panic!("a second holder got the lease of {awaited}")
    };
    assert_eq!(holder, awaited);
    assert!(remaining <= LONG && remaining > LONG / 2, "{remaining:?}");
}

async fn a_lease_ends_by_itself(store: &impl MetadataStore, clock: &impl Clock) {
    let name = "short";
    assert_eq!(
        ok(store.acquire_lease(name, 1, SHORT).await),
        LeaseOutcome::Held
    );
    clock.sleep(SHORT * 2).await;
    assert_eq!(
        ok(store.acquire_lease(name, 2, LONG).await),
        LeaseOutcome::Held
    );
    held_by_other(ok(store.acquire_lease(name, 1, LONG).await), 2);

    // To renew is to begin anew, longer or shorter.
    assert_eq!(
        ok(store.acquire_lease(name, 2, SHORT).await),
        LeaseOutcome::Held
    );
    clock.sleep(SHORT * 2).await;
    // Its holder may renew it when it has ended and nobody came.
    assert_eq!(
        ok(store.acquire_lease(name, 2, LONG).await),
        LeaseOutcome::Held
    );
    held_by_other(ok(store.acquire_lease(name, 1, LONG).await), 2);
    assert_eq!(
        ok(store.acquire_lease(name, 2, Duration::ZERO).await),
        LeaseOutcome::Held
    );
    assert_eq!(
        ok(store.acquire_lease(name, 1, LONG).await),
        LeaseOutcome::Held
    );
}

async fn of_many_holders_one_gets_the_lease(store: &impl MetadataStore, clock: &impl Clock) {
    assert_eq!(
        ok(store.acquire_lease("contended", 99, SHORT).await),
        LeaseOutcome::Held
    );
    clock.sleep(SHORT * 2).await;
    let racers = (0..20).map(|holder| {
        let store = store.clone();
        async move { ok(store.acquire_lease("contended", holder, LONG).await) }
    });
    let outcomes = join_all(racers).await;
    let held = |outcome: &&LeaseOutcome| **outcome == LeaseOutcome::Held;
    assert_eq!(outcomes.iter().filter(held).count(), 1, "{outcomes:?}");
}

async fn told(
    events: &mut (impl futures::Stream<Item = MetadataEvent> + Unpin),
    awaited: MetadataEvent,
    clock: &impl Clock,
) {
    let search = async {
        while let Some(event) = events.next().await {
            if event == awaited {
                return;
            }
        }
        panic!("the watch ended before the store");
    };
    within(clock, &format!("to be told of {awaited:?}"), search).await;
}

fn tenant(name: &str) -> Tenant {
    let id = TenantId::new(name).expect("a tenant's name");
    Tenant {
        id,
        ..Tenant::default_at(1_700_000_000)
    }
}

fn key(of: &str, number: u64) -> ApiKey {
    ApiKey {
        id: ApiKeyId::from_bits(number),
        tenant: tenant(of).id,
        role: TenantRole::Write,
        secret_hash: [number as u8; 32],
        created_at: 1_700_000_000,
        revoked_at: None,
    }
}

fn topology(epoch: u64, nodes: &[&str]) -> Topology {
    let node = |(n, name): (usize, &&str)| Node {
        id: NodeId::new(*name).expect("a node's name"),
        host: "127.0.0.1".to_owned(),
        port: 1 + n as u16,
        virtual_nodes: 100 + n as u32,
        status: [
            NodeStatus::Active,
            NodeStatus::Joining,
            NodeStatus::Draining,
            NodeStatus::Inactive,
        ][n % 4],
        zone: None,
        seat: None,
    };
    Topology::new(
        Epoch(epoch),
        64,
        nodes.iter().enumerate().map(node).collect(),
    )
    .expect("a topology")
}
