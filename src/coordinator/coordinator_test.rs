//! What a coordinator does for its clients, told as sentences.

use std::time::Duration;

use bytes::Bytes;

use super::test_cluster::{Away, Mood, TestCluster, read, write};
use super::{CoordinatorError, NodesChanged, WriteRequest};
use crate::placement::{ChangeRequest, Epoch, NodeChange, NodeId, Token};
use crate::ports::{Clock, CoordinatorWorld, MetadataStore, SiblingLimits, Tenant, TenantId};
use crate::quorum::Consistency;
use crate::version::{Actor, Content, Context, Stamp};

fn set(values: &[&str]) -> std::collections::BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn what_was_written_is_read_and_all_owners_get_it() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let outcome = cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
    assert!(outcome.replicas >= 2);
    assert_eq!(outcome.clock.len(), 1);
    assert_eq!(
        cluster.read(&coordinator, read("lww", "k")),
        Ok(set(&["v"]))
    );
    cluster.pass(Duration::from_millis(10));
    let owners = cluster.owners(&coordinator, "lww", "k");
    assert!(
        owners
            .iter()
            .all(|owner| cluster.record(owner) == cluster.record(&owners[0]))
    );
}

#[test]
fn the_clock_names_the_node_that_stamped() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    cluster.pass(Duration::from_millis(10));
    let outcome = cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
    let owners = cluster.owners(&coordinator, "lww", "k");
    let (node, _) = outcome.clock[0].node.split_once('#').unwrap();
    assert!(
        owners.iter().any(|owner| owner.as_str() == node),
        "{outcome:?}"
    );
}

#[test]
fn a_key_that_is_not_there_is_not_found_and_an_empty_value_is_a_value() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    assert!(matches!(
        cluster.read(&coordinator, read("lww", "k")),
        Err(CoordinatorError::KeyNotFound { .. })
    ));
    cluster.write(&coordinator, write("lww", "k", "")).unwrap();
    assert_eq!(cluster.read(&coordinator, read("lww", "k")), Ok(set(&[""])));
}

#[test]
fn a_deleted_key_is_not_found() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
    let delete = super::WriteRequest {
        content: Content::Tombstone,
        ..write("lww", "k", "")
    };
    cluster.write(&coordinator, delete).unwrap();
    assert!(matches!(
        cluster.read(&coordinator, read("lww", "k")),
        Err(CoordinatorError::KeyNotFound { .. })
    ));
}

#[test]
fn with_one_owner_down_a_quorum_goes_on_and_the_owner_is_repaired_when_it_is_back() {
    for mood in [Mood::Down, Mood::Silent] {
        let cluster = TestCluster::new();
        let coordinator = cluster.coordinator();
        let owners = cluster.owners(&coordinator, "lww", "k");
        for owner in &owners {
            cluster.set_mood(owner, mood);
            let value = format!("without {owner}");
            let started = cluster.world.clock().now();
            cluster
                .write(&coordinator, write("lww", "k", &value))
                .unwrap();
            assert_eq!(
                cluster.read(&coordinator, read("lww", "k")),
                Ok(set(&[&value]))
            );
            let took = cluster.world.clock().now().since(started);
            assert!(took < Duration::from_millis(300), "{mood:?} took {took:?}");
            cluster.set_mood(owner, Mood::Fine);
            cluster.pass(Duration::from_secs(20));
            assert_eq!(
                cluster.record(owner),
                cluster.record(&owners[0]),
                "{mood:?}"
            );
        }
    }
}

#[test]
fn without_a_quorum_the_error_says_who_is_missing_and_whether_it_may_have_happened() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    for owner in &owners {
        cluster.set_mood(owner, Mood::Down);
    }
    let error = cluster
        .write(&coordinator, write("lww", "k", "v"))
        .unwrap_err();
    let CoordinatorError::QuorumNotReached(quorum) = &error else {
        panic!("{error:?}")
    };
    assert!(!quorum.indeterminate && !quorum.timed_out);
    assert_eq!(
        (quorum.answered, quorum.required, quorum.missing.len()),
        (0, 2, 3)
    );

    cluster.set_mood(&owners[0], Mood::LosesAnswers);
    let error = cluster
        .write(&coordinator, write("lww", "k", "v"))
        .unwrap_err();
    let CoordinatorError::QuorumNotReached(quorum) = &error else {
        panic!("{error:?}")
    };
    assert!(quorum.indeterminate, "{error}");

    cluster.set_mood(&owners[0], Mood::Fine);
    let error = cluster
        .write(&coordinator, write("lww", "k", "v"))
        .unwrap_err();
    assert!(error.to_string().contains("1 of 2 replicas"), "{error}");
    assert!(error.to_string().contains("indeterminate"), "{error}");
    assert!(cluster.read(&coordinator, read("lww", "k")).is_err());
}

/// How many answered, of how many, and who did not and why.
fn what_was_missing(error: &CoordinatorError) -> (usize, usize, Vec<(String, String)>) {
    match error {
        CoordinatorError::QuorumNotReached(quorum) => {
            let mut missing = quorum.missing.clone();
            missing.sort();
            (quorum.answered, quorum.required, missing)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_says_of_each_replica_that_is_missing_why() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    let mut away: Vec<&str> = owners[1..].iter().map(NodeId::as_str).collect();
    away.sort_unstable();
    for owner in &owners[1..] {
        cluster.set_mood(owner, Mood::Down);
    }
    let error = cluster.read(&coordinator, read("lww", "k")).unwrap_err();
    // It may be too few before the one that is there has answered.
    let (answered, required, missing) = what_was_missing(&error);
    assert!(answered <= 1 && required == 2, "{error}");
    let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, away, "{error}");
    let why = |(_, why): &(String, String)| why.contains("not reached");
    assert!(missing.iter().all(why), "{error}");

    for owner in &owners {
        cluster.set_mood(owner, Mood::Silent);
    }
    let error = cluster.write(&coordinator, write("lww", "k", "v"));
    let (_, _, missing) = what_was_missing(&error.unwrap_err());
    let is_silent = |(_, why): &(String, String)| why.contains("did not answer");
    assert!(
        missing.len() == 3 && missing.iter().all(is_silent),
        "{missing:?}"
    );
}

#[test]
fn a_context_is_covered_by_what_any_owner_has_purged() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let stamp = Stamp::new(5, 0);
    let covering = Context {
        shown: [(Actor(99), stamp.0)].into_iter().collect(),
        written: None,
    };
    let with_context = || super::ReadRequest {
        context: covering.encode(Token::of_key("lww", "k").0),
        ..read("lww", "k")
    };
    let nowhere = cluster.read(&coordinator, with_context());
    let is_missing = matches!(nowhere, Err(CoordinatorError::QuorumNotReached(_)));
    assert!(is_missing, "{nowhere:?}");
    let owners = cluster.owners(&coordinator, "lww", "k");
    cluster.purge_planted(&coordinator, &owners[2], "k", stamp);
    let purged = cluster.read(&coordinator, with_context());
    let is_gone = matches!(purged, Err(CoordinatorError::KeyNotFound { .. }));
    assert!(is_gone, "{purged:?}");
}

#[test]
fn a_read_that_can_not_repair_enough_owners_says_how_many_hold_what_it_read() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    cluster.plant(&coordinator, &owners[0], "k", Stamp::new(5, 0), "v");
    for owner in &owners[1..] {
        cluster.set_mood(owner, Mood::SilentToJoins);
    }
    let request = super::ReadRequest {
        consistency: Some(Consistency::All),
        ..read("lww", "k")
    };
    let error = cluster.read(&coordinator, request).unwrap_err();
    let (answered, required, missing) = what_was_missing(&error);
    assert_eq!((answered, required, missing.len()), (1, 3, 2), "{error}");
}

#[test]
fn a_read_without_a_quorum_ends_at_its_deadline_and_speaks_of_no_write() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    for owner in cluster.owners(&coordinator, "lww", "k") {
        cluster.set_mood(&owner, Mood::Silent);
    }
    let error = cluster.read(&coordinator, read("lww", "k")).unwrap_err();
    let CoordinatorError::QuorumNotReached(quorum) = &error else {
        panic!("{error:?}")
    };
    assert!(quorum.timed_out && !quorum.indeterminate, "{error}");
}

#[test]
fn a_write_that_began_later_wins_whatever_the_clocks_say() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    let hour_ahead = Stamp::new(cluster.world.clock().wall_ms() + 3_600_000, 0);
    // The only owner that will stamp does not hold it, so the quorum must find it when it joins.
    cluster.plant(
        &coordinator,
        &owners[1],
        "k",
        hour_ahead,
        "from a clock ahead",
    );
    cluster.plant(
        &coordinator,
        &owners[2],
        "k",
        hour_ahead,
        "from a clock ahead",
    );
    cluster
        .write(&coordinator, write("lww", "k", "later"))
        .unwrap();
    assert_eq!(
        cluster.read(&coordinator, read("lww", "k")),
        Ok(set(&["later"]))
    );
    let all = super::ReadRequest {
        consistency: Some(Consistency::All),
        ..read("lww", "k")
    };
    assert_eq!(cluster.read(&coordinator, all), Ok(set(&["later"])));
}

#[test]
fn a_context_does_not_hide_the_stamp_that_must_be_beaten() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    let ahead = Stamp::new(cluster.world.clock().wall_ms() + 3_600_000, 0);
    cluster.plant(&coordinator, &owners[1], "k", ahead, "ahead");
    cluster.plant(&coordinator, &owners[2], "k", ahead, "ahead");
    let seen = cluster.record(&owners[1]).seen().clone();
    let context = crate::version::Context {
        shown: seen,
        written: None,
    };
    let binding = crate::placement::Token::of_key("lww", "k").0;
    let knowing = super::WriteRequest {
        context: context.encode(binding),
        ..write("lww", "k", "later")
    };
    cluster.write(&coordinator, knowing).unwrap();
    let stamped = owners
        .iter()
        .map(|owner| cluster.record(owner).greatest_stamp());
    assert!(
        stamped.max() > Some(ahead),
        "an attempt of the write before, delivered late, would win"
    );
}

#[test]
fn an_attempt_whose_answer_was_lost_never_beats_a_later_write() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    cluster.set_mood(&owners[0], Mood::LosesAnswers);
    cluster
        .write(&coordinator, write("lww", "k", "first"))
        .unwrap();
    cluster.set_mood(&owners[0], Mood::Down);
    let slow = cluster.coordinator();
    cluster.write(&slow, write("lww", "k", "second")).unwrap();
    cluster.set_mood(&owners[0], Mood::Fine);
    let all = super::ReadRequest {
        consistency: Some(Consistency::All),
        ..read("lww", "k")
    };
    assert_eq!(cluster.read(&coordinator, all), Ok(set(&["second"])));
}

#[test]
fn blind_writes_become_siblings_and_a_context_overwrites_exactly_what_it_covers() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    cluster
        .write(&coordinator, write("siblings", "k", "a"))
        .unwrap();
    cluster
        .write(&coordinator, write("siblings", "k", "b"))
        .unwrap();
    let seen = cluster
        .run(coordinator.read(read("siblings", "k")))
        .unwrap();
    assert_eq!(super::test_cluster::values(&seen), set(&["a", "b"]));
    cluster
        .write(&coordinator, write("siblings", "k", "c"))
        .unwrap();
    let merged = super::WriteRequest {
        context: seen.context,
        ..write("siblings", "k", "a+b")
    };
    cluster.write(&coordinator, merged).unwrap();
    assert_eq!(
        cluster.read(&coordinator, read("siblings", "k")),
        Ok(set(&["a+b", "c"]))
    );
}

#[test]
fn the_context_of_a_write_covers_that_write_and_no_sibling_beside_it() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    cluster
        .write(&coordinator, write("siblings", "k", "theirs"))
        .unwrap();
    let mut mine = cluster
        .write(&coordinator, write("siblings", "k", "mine 0"))
        .unwrap();
    for round in 1..4 {
        let next = super::WriteRequest {
            context: mine.context,
            ..write("siblings", "k", &format!("mine {round}"))
        };
        mine = cluster.write(&coordinator, next).unwrap();
    }
    assert_eq!(
        cluster.read(&coordinator, read("siblings", "k")),
        Ok(set(&["theirs", "mine 3"]))
    );
}

#[test]
fn an_owner_that_has_not_seen_the_clients_own_write_is_brought_up_before_it_stamps() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "siblings", "k");
    let one = |request: super::WriteRequest| super::WriteRequest {
        consistency: Some(Consistency::One),
        ..request
    };
    cluster
        .write(&coordinator, write("siblings", "k", "theirs"))
        .unwrap();
    for owner in &owners[1..] {
        cluster.set_mood(owner, Mood::Down);
    }
    let mine = cluster
        .write(&coordinator, one(write("siblings", "k", "mine")))
        .unwrap();
    let next = super::WriteRequest {
        context: mine.context,
        ..write("siblings", "k", "mine again")
    };
    for owner in &owners[1..] {
        cluster.set_mood(owner, Mood::Fine);
    }
    cluster.set_mood(&owners[0], Mood::Slow(Duration::from_millis(150)));
    cluster.write(&coordinator, one(next)).unwrap();
    cluster.pass(Duration::from_secs(5));
    assert_eq!(
        cluster.read(&coordinator, read("siblings", "k")),
        Ok(set(&["theirs", "mine again"]))
    );
}

#[test]
fn an_owner_that_can_not_be_brought_up_is_passed_over() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "siblings", "k");
    cluster.set_mood(&owners[0], Mood::Down);
    let first = cluster
        .write(&coordinator, write("siblings", "k", "first"))
        .unwrap();
    cluster.set_mood(&owners[0], Mood::SilentToJoins);
    for owner in &owners[1..] {
        cluster.set_mood(owner, Mood::Slow(Duration::from_millis(150)));
    }
    // By another coordinator, which has not heard yet that it was away.
    let coordinator = cluster.coordinator();
    let next = super::WriteRequest {
        context: first.context,
        ..write("siblings", "k", "next")
    };
    cluster.write(&coordinator, next).unwrap();
    for owner in &owners[1..] {
        cluster.set_mood(owner, Mood::Fine);
    }
    assert_eq!(
        cluster.read(&coordinator, read("siblings", "k")),
        Ok(set(&["next"]))
    );
}

#[test]
fn a_quorum_read_repairs_before_it_answers() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    cluster.plant(
        &coordinator,
        &owners[0],
        "k",
        Stamp::new(5, 0),
        "on one owner only",
    );
    cluster.set_mood(&owners[2], Mood::Down);
    assert_eq!(
        cluster.read(&coordinator, read("lww", "k")),
        Ok(set(&["on one owner only"]))
    );
    assert_eq!(cluster.record(&owners[1]), cluster.record(&owners[0]));
    assert_eq!(coordinator.status().blocking_repairs(), 1);
    cluster.set_mood(&owners[0], Mood::Down);
    cluster.set_mood(&owners[2], Mood::Fine);
    assert_eq!(
        cluster.read(&coordinator, read("lww", "k")),
        Ok(set(&["on one owner only"]))
    );
}

#[test]
fn a_value_that_an_owner_has_purged_is_not_shown() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    let value = "back on one owner only";
    cluster.plant(&coordinator, &owners[0], "k", Stamp::new(5, 0), value);
    cluster.purge_planted(&coordinator, &owners[1], "k", Stamp::new(5, 0));
    cluster.set_mood(&owners[2], Mood::Down);
    let answer = cluster.read(&coordinator, read("lww", "k"));
    assert!(
        matches!(answer, Err(CoordinatorError::KeyNotFound { .. })),
        "{answer:?}"
    );
}

#[test]
fn a_repair_before_the_answer_goes_to_another_owner_when_one_is_silent() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    let value = "on one owner only";
    cluster.plant(&coordinator, &owners[0], "k", Stamp::new(5, 0), value);
    cluster.set_mood(&owners[1], Mood::SilentToJoins);
    cluster.set_mood(&owners[2], Mood::Slow(Duration::from_millis(30))); // so that the others are read
    let started = cluster.world.clock().now();
    assert_eq!(
        cluster.read(&coordinator, read("lww", "k")),
        Ok(set(&[value]))
    );
    let took = cluster.world.clock().now().since(started);
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert_eq!(cluster.record(&owners[2]), cluster.record(&owners[0]));
    assert!(cluster.record(&owners[1]).is_empty());
}

#[test]
fn a_read_with_a_context_asks_on_until_it_is_covered_or_fails() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    for owner in &owners[1..] {
        cluster.set_mood(owner, Mood::Down);
    }
    let one = Some(Consistency::One);
    let mine = super::WriteRequest {
        consistency: one,
        ..write("lww", "k", "mine")
    };
    let written = cluster.write(&coordinator, mine).unwrap();
    let with_floor = super::ReadRequest {
        consistency: one,
        context: written.context,
        ..read("lww", "k")
    };
    cluster.set_mood(&owners[0], Mood::Slow(Duration::from_millis(50)));
    for owner in &owners[1..] {
        cluster.set_mood(owner, Mood::Fine);
    }
    assert_eq!(
        cluster.read(&coordinator, with_floor.clone()),
        Ok(set(&["mine"]))
    );

    let cluster_without_it = TestCluster::new();
    let other = cluster_without_it.coordinator();
    let error = cluster_without_it.read(&other, with_floor).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("covers a write that no reachable owner has"),
        "{error}"
    );
}

#[test]
fn a_slow_owner_is_hedged() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
    cluster.pass(Duration::from_millis(10));
    for slow in &owners {
        cluster.set_mood(slow, Mood::Slow(Duration::from_millis(2_000)));
        let started = cluster.world.clock().now();
        assert_eq!(
            cluster.read(&coordinator, read("lww", "k")),
            Ok(set(&["v"]))
        );
        let took = cluster.world.clock().now().since(started);
        assert!(took < Duration::from_millis(100), "{took:?}");
        cluster.set_mood(slow, Mood::Fine);
        cluster.pass(Duration::from_secs(3));
    }
}

#[test]
fn a_replica_that_knows_a_newer_epoch_makes_the_coordinator_refresh_and_go_on() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
    cluster.bump_epoch();
    cluster.nodes_adopt(Epoch(2));
    cluster.write(&coordinator, write("lww", "k", "w")).unwrap();
    assert_eq!(
        cluster.read(&coordinator, read("lww", "k")),
        Ok(set(&["w"]))
    );
    assert_eq!(coordinator.readiness().epoch, Epoch(2));
}

#[test]
fn an_epoch_that_was_adopted_but_never_published_does_not_stop_service() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    cluster.nodes_adopt(Epoch(2));
    cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
    assert_eq!(coordinator.readiness().epoch, Epoch(2));
}

#[test]
fn a_coordinator_that_missed_changes_of_the_metadata_looks_everything_up_anew() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let limits = || {
        let tenant = cluster.run(coordinator.admin().tenant("siblings")).unwrap();
        tenant.siblings
    };
    let before = limits();
    let metadata = cluster.world.metadata();
    let stored = cluster.run(metadata.tenant(&TenantId::new("siblings").unwrap()));
    let changed = SiblingLimits::new(3, 7).unwrap();
    let update = metadata.update_tenant(Tenant {
        siblings: changed,
        ..stored.unwrap().unwrap()
    });
    cluster.run(update).unwrap();
    cluster.bump_epoch();
    // More than are kept for a watcher that is slow; this one does not get to run in between.
    for n in 0..1000 {
        let other = Tenant {
            id: TenantId::new(format!("other-{n}")).unwrap(),
            ..Tenant::default_at(0)
        };
        cluster.run(metadata.create_tenant(other)).unwrap();
    }
    assert_eq!(limits(), before, "nobody told it yet");
    cluster.pass(Duration::from_millis(10));
    assert_eq!(limits(), changed);
    assert_eq!(coordinator.readiness().epoch, Epoch(2));
}

#[test]
fn a_coordinator_none_of_whose_nodes_answers_is_not_ready() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    assert!(coordinator.readiness().ready);
    let owners = cluster.owners(&coordinator, "lww", "k");
    let nodes: Vec<_> = coordinator
        .admin()
        .nodes()
        .into_iter()
        .map(|node| node.node.id)
        .collect();
    for node in &nodes {
        cluster.set_mood(node, Mood::Down);
    }
    cluster.pass(Duration::from_secs(5));
    assert!(!coordinator.readiness().ready);
    cluster.set_mood(&owners[0], Mood::Fine);
    cluster.pass(Duration::from_secs(2));
    assert!(coordinator.readiness().ready, "one of them is back");
}

/// No such epoch was ever published, and none can be for a long time.
const NO_EPOCH: Epoch = Epoch(1 << 63);

#[test]
fn one_node_that_names_an_epoch_that_cannot_be_counts_as_missing_and_no_more() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    cluster.node_adopts(&owners[0], NO_EPOCH);
    for n in 0..10 {
        let value = format!("{n}");
        cluster
            .write(&coordinator, write("lww", "k", &value))
            .unwrap();
        assert_eq!(
            cluster.read(&coordinator, read("lww", "k")),
            Ok(set(&[&value]))
        );
    }
    cluster.pass(Duration::from_secs(10));
    let readiness = coordinator.readiness();
    assert_eq!((readiness.epoch, readiness.nodes_healthy), (Epoch(1), 4));
    let stored = cluster.run(cluster.world.metadata().topology()).unwrap();
    assert_eq!(stored.epoch, Epoch(1), "nobody was pushed anywhere");
    let out_of_step = |expected: usize| {
        let nodes = coordinator.admin().nodes();
        assert_eq!(
            nodes.iter().filter(|node| node.out_of_step).count(),
            expected
        );
    };
    out_of_step(1);
    let all = WriteRequest {
        consistency: Some(Consistency::All),
        ..write("lww", "k", "all")
    };
    let error = cluster.write(&coordinator, all).unwrap_err().to_string();
    let missing = format!(
        "{} (the node can't serve this now: it refuses epochs below {NO_EPOCH}",
        owners[0]
    );
    assert!(error.contains(&missing), "{error}");

    // Its epoch is set back to the next one, as the runbook has it: that is published, and all is well.
    cluster.set_epoch_back(&owners[0], Epoch(1));
    cluster.pass(Duration::from_secs(10));
    out_of_step(0);
    let readiness = coordinator.readiness();
    assert_eq!((readiness.epoch, readiness.nodes_healthy), (Epoch(2), 5));
}

#[test]
fn while_the_metadata_store_is_away_one_node_that_knows_a_newer_epoch_stops_nobody() {
    for away in [Away::Silent, Away::Fails] {
        let cluster = TestCluster::new();
        let coordinator = cluster.coordinator();
        let owners = cluster.owners(&coordinator, "lww", "k");
        cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
        cluster.metadata_is(away);
        cluster.node_adopts(&owners[0], Epoch(2));
        let written = cluster.write(&coordinator, write("lww", "k", "w"));
        assert!(written.is_ok(), "{away:?}: {written:?}");
        assert_eq!(
            cluster.read(&coordinator, read("lww", "k")),
            Ok(set(&["w"]))
        );
        cluster.metadata_is(Away::Not);
        cluster.pass(Duration::from_secs(30));
        assert_eq!(coordinator.readiness().epoch, Epoch(2), "{away:?}");
        assert!(
            coordinator
                .admin()
                .nodes()
                .iter()
                .all(|node| !node.out_of_step)
        );
    }
}

#[test]
fn what_failed_while_the_metadata_store_was_away_succeeds_as_soon_as_it_is_back() {
    for away in [Away::Silent, Away::Fails] {
        let cluster = TestCluster::new();
        let coordinator = cluster.coordinator();
        cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
        cluster.bump_epoch();
        cluster.metadata_is(away);
        cluster.nodes_adopt(Epoch(2));
        let failed = cluster.write(&coordinator, write("lww", "k", "w"));
        assert!(failed.is_err(), "{away:?}: {failed:?}");
        let failed = cluster.read(&coordinator, read("lww", "k"));
        assert!(failed.is_err(), "{away:?}: {failed:?}");
        cluster.metadata_is(Away::Not);
        assert_eq!(
            cluster.read(&coordinator, read("lww", "k")),
            Ok(set(&["v"]))
        );
        cluster.write(&coordinator, write("lww", "k", "w")).unwrap();
    }
}

#[test]
fn a_promise_left_behind_is_made_good_without_any_client() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = cluster.owners(&coordinator, "lww", "k");
    cluster.node_adopts(&owners[0], Epoch(2));
    cluster.pass(Duration::from_secs(3));
    assert_eq!(
        coordinator.readiness().epoch,
        Epoch(1),
        "somebody may be at it"
    );
    cluster.pass(Duration::from_secs(5));
    assert_eq!(coordinator.readiness().epoch, Epoch(2));
}

#[test]
fn an_epoch_that_is_published_over_a_store_that_lost_one_has_the_nodes_that_are_in_use() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let older = cluster.stored_topology();
    let mut newer = older.at(Epoch(2));
    newer.nodes[4].zone = Some("elsewhere".into());
    let published = cluster.metadata().replace_topology(Epoch(1), newer.clone());
    cluster.run(published).unwrap();
    cluster.pass(Duration::from_secs(1));
    assert_eq!(coordinator.readiness().epoch, Epoch(2));
    cluster.store_knows_only(older);
    let topologies = &coordinator.status().topologies;
    assert_eq!(cluster.run(topologies.next_epoch()), Ok(Some(Epoch(3))));
    assert_eq!(cluster.stored_topology(), newer.at(Epoch(3)));
}

#[test]
fn a_write_that_comes_below_what_its_owners_hold_is_raised_above_it() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let own_ms = cluster.world().clock().wall_ms();
    for owner in cluster.owners(&coordinator, "lww", "k") {
        let ahead = Stamp::new(own_ms + 500, 0);
        cluster.plant(&coordinator, &owner, "k", ahead, "ahead");
    }
    cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
    assert_eq!(
        cluster.read(&coordinator, read("lww", "k")),
        Ok(set(&["v"]))
    );
}

#[test]
fn one_idempotency_key_has_one_effect_and_one_answer() {
    let cluster = TestCluster::new();
    let (first, second) = (cluster.coordinator(), cluster.coordinator());
    let request = super::WriteRequest {
        idempotency_key: Some("once".into()),
        ..write("siblings", "k", "v")
    };
    let original = cluster.write(&first, request.clone()).unwrap();
    let repeated = cluster.write(&second, request.clone()).unwrap();
    assert!(!original.is_duplicate && repeated.is_duplicate);
    assert_eq!(
        (&original.clock, &original.context),
        (&repeated.clock, &repeated.context)
    );
    assert_eq!(cluster.read(&first, read("siblings", "k")), Ok(set(&["v"])));
    let other = super::WriteRequest {
        content: Content::Value(Bytes::from_static(b"w")),
        ..request
    };
    let error = cluster.write(&second, other).unwrap_err();
    assert!(
        matches!(error, CoordinatorError::IdempotencyKeyConflict { .. }),
        "{error}"
    );
}

#[test]
fn a_retry_after_the_first_coordinator_died_can_not_win_over_what_came_in_between() {
    let cluster = TestCluster::new();
    let (dying, second) = (cluster.coordinator(), cluster.coordinator());
    let owners = cluster.owners(&dying, "lww", "k");
    let request = super::WriteRequest {
        idempotency_key: Some("once".into()),
        ..write("lww", "k", "claimed")
    };
    for owner in &owners {
        cluster.set_mood(owner, Mood::Slow(Duration::from_millis(50)));
    }
    // The read before the claim, and asking what was purged, take 50 ms each; then the claim is made and the owners are
    // at work on the stamp.
    let clock = cluster.world.clock();
    let dies = clock.now() + Duration::from_millis(125);
    let first = cluster.run(super::wait::before(
        clock,
        dies,
        dying.write(request.clone()),
    ));
    assert_eq!(first, None);
    cluster.lose_tasks(); // the end of the claim among them
    for owner in &owners {
        cluster.set_mood(owner, Mood::Fine);
    }
    cluster.write(&second, write("lww", "k", "newer")).unwrap();
    let error = cluster.write(
        &second,
        super::WriteRequest {
            timeout: Some(Duration::from_secs(1)),
            ..request.clone()
        },
    );
    assert!(
        matches!(error, Err(CoordinatorError::IdempotencyKeyInUse { .. })),
        "the claim still shields: {error:?}"
    );
    // No longer than the one who died had time, so nobody has to come again who has as much.
    let retried = cluster.write(&second, request.clone()).unwrap();
    assert!(!retried.is_duplicate);
    assert_eq!(cluster.read(&second, read("lww", "k")), Ok(set(&["newer"])));
    assert!(cluster.write(&second, request).unwrap().is_duplicate);
}

#[test]
fn a_tenant_nobody_created_is_not_found() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    assert_eq!(
        cluster.write(&coordinator, write("nobody", "k", "v")),
        Err(CoordinatorError::TenantNotFound("nobody".into()))
    );
}

#[test]
fn nodes_change_at_once_while_all_are_empty_and_by_a_migration_later() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let leaving = cluster.owners(&coordinator, "lww", "k")[0].clone();
    let removal = |id: &NodeId| ChangeRequest {
        nodes: vec![NodeChange::Remove {
            id: id.clone(),
            force: false,
        }],
        factors: Vec::new(),
    };
    let removed = cluster.run(coordinator.admin().change_nodes(removal(&leaving)));
    let Ok(NodesChanged::AtOnce { topology, given_up }) = removed else {
        panic!("{removed:?}");
    };
    assert_eq!(given_up, []);
    assert_eq!((topology.epoch, topology.nodes.len()), (Epoch(2), 4));
    cluster.write(&coordinator, write("lww", "k", "v")).unwrap();
    let staying = cluster.owners(&coordinator, "lww", "k")[0].clone();
    let asked = cluster.run(coordinator.admin().change_nodes(removal(&staying)));
    let Ok(NodesChanged::Asked {
        migration,
        ahead: 0,
    }) = asked
    else {
        panic!("{asked:?}");
    };
    let again = cluster.run(coordinator.admin().change_nodes(removal(&staying)));
    assert_eq!(
        again,
        Ok(NodesChanged::Asked {
            migration,
            ahead: 0
        })
    );
    cluster
        .write(&coordinator, write("lww", "k", "still served"))
        .unwrap();
}

#[test]
fn another_replication_factor_is_asked_for_once() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let update = |factor| cluster.run(coordinator.admin().update_replication_factor("lww", factor));
    assert_eq!(update(3).unwrap().migration, None);
    let to_five = update(5).unwrap();
    assert_eq!(to_five.tenant.replication_factor, 3, "still");
    assert!(to_five.migration.is_some());
    assert_eq!(update(5), Ok(to_five.clone()), "asked for already");
    let back = update(3).unwrap();
    assert!(back.migration.is_some() && back.migration != to_five.migration);
    assert!(matches!(
        cluster.run(coordinator.admin().update_replication_factor("lww", 11)),
        Err(CoordinatorError::InvalidReplicationFactor(_))
    ));
}
