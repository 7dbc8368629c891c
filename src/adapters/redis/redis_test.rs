//! The suite on real servers: one alone, with TLS, a cluster, sentinels; and servers that hang, end and forget.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is shown by --nocapture"
)]

use std::time::Instant;

use bytes::Bytes;
use futures::future::join_all;

use super::*;
use crate::placement::PartitionId;
use crate::ports::{
    Claim, ClaimOutcome, Completion, IdempotencyScope, IdempotencyStore, RecordKey, StoreError,
    TenantId, conformance,
};
use crate::test_servers::{Fate, Proxy, Redis, redis};
use crate::version::{Stamp, WriteId};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_conforms() {
    conforms(&redis().url(), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_over_tls() {
    let server = redis();
    let url = format!("rediss://127.0.0.1:{}", server.tls_port);
    let authority = std::fs::read(&server.certificates.authority).unwrap();
    conforms(&url, Some(authority)).await;
    let untrusting = store(&url, patient("untrusting"));
    let refused = untrusting
        .claim(&scope("k"), claim(1), MINUTE, MINUTE)
        .await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_a_cluster() {
    let members = Redis::cluster();
    // One is enough to find the others.
    conforms(
        &format!("redis+cluster://127.0.0.1:{}", members[2].port),
        None,
    )
    .await;
    let keys = |member: &Redis| member.command(&["dbsize"]).trim().parse::<u64>().unwrap();
    assert!(
        members.iter().all(|member| keys(member) > 0),
        "the keys are spread over all"
    );
    let url = format!("redis+cluster://127.0.0.1:{}", members[0].port);
    assert_eq!(
        store(&url, patient("doubted"))
            .doubts()
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_under_a_sentinel_and_follows_it_to_another_master() {
    let mut master = Redis::own();
    let replica = Redis::replica(&master);
    let sentinel = Redis::sentinel(&master);
    let url = format!("redis+sentinel://127.0.0.1:{}/claims", sentinel.port);
    conforms(&url, None).await;

    let settings = RedisSettings {
        call_timeout: Duration::from_millis(500),
        ..patient("followed")
    };
    let store = store(&url, settings);
    assert_eq!(
        store
            .claim(&scope("before"), claim(1), MINUTE, MINUTE)
            .await,
        Ok(ClaimOutcome::Claimed)
    );
    assert_eq!(
        master.command(&["wait", "1", "60000"]).trim(),
        "1",
        "the replica has it"
    );
    sentinel.await_text(
        &["sentinel", "replicas", "claims"],
        &replica.port.to_string(),
    );
    master.stop();
    let began = Instant::now();
    loop {
        match store
            .claim(&scope("before"), claim(2), MINUTE, MINUTE)
            .await
        {
            Ok(outcome) => {
                assert_eq!(outcome, ClaimOutcome::Pending(claim(1)));
                break;
            }
            Err(error) => assert!(
                began.elapsed() < MINUTE,
                "no other master is found: {error}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_ends_is_unavailable_until_it_is_back() {
    let mut server = Redis::own();
    let settings = RedisSettings {
        call_timeout: Duration::from_millis(200),
        ..patient("down")
    };
    let store = store(&server.url(), settings);
    assert_eq!(
        store.claim(&scope("kept"), claim(1), MINUTE, MINUTE).await,
        Ok(ClaimOutcome::Claimed)
    );

    let fails_in_time = async || {
        let began = Instant::now();
        let refused = store.claim(&scope("new"), claim(1), MINUTE, MINUTE).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable { .. })),
            "{refused:?}"
        );
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    };
    let recovers = async || {
        let began = Instant::now();
        while store.release(&scope("nothing"), claim(1)).await.is_err() {
            assert!(began.elapsed() < MINUTE, "the store did not recover");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    server.hold();
    fails_in_time().await;
    server.go_on();
    recovers().await;

    server.stop();
    fails_in_time().await;
    fails_in_time().await;
    server.start_again();
    recovers().await;
    // It kept what it had acknowledged, and has to be told the scripts anew.
    let kept = store.claim(&scope("kept"), claim(2), MINUTE, MINUTE).await;
    assert_eq!(kept, Ok(ClaimOutcome::Pending(claim(1))));
}

/// The answer of every call is lost once, so every script runs a second time, when its caller asks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_runs_twice_does_and_says_the_same() {
    let server = Redis::own();
    let (proxy, url) = server.through_a_proxy();
    let store = store(&url, patient("twice"));
    let (scope, answer) = (scope("k"), Bytes::from_static(b"answer"));
    let claims = async |holder| {
        let ask = async || store.claim(&scope, claim(holder), MINUTE, MINUTE).await;
        twice(&proxy, ask).await
    };
    // Each is told once, so that what comes is one command.
    let _ = store.claim(&scope, claim(9), MINUTE, MINUTE).await;
    let _ = store.abandon(&scope, claim(9)).await;
    let _ = store.release(&scope, claim(9)).await;

    assert_eq!(claims(1).await, ClaimOutcome::Claimed);
    assert_eq!(claims(2).await, ClaimOutcome::Pending(claim(1)));
    twice(&proxy, async || store.abandon(&scope, claim(1)).await).await;
    let mine = Claim {
        stamp: Stamp(2),
        write_id: WriteId(2),
        ..claim(2)
    };
    let take = async || store.claim(&scope, mine, MINUTE, MINUTE).await;
    let taken = twice(&proxy, take).await;
    assert_eq!(
        taken,
        ClaimOutcome::TakenOver(claim(2)),
        "the first claim's write"
    );

    // Given back, and taken by somebody else before it is given back once more.
    proxy.next("EVALSHA", Fate::AnswerLost, 1);
    assert!(store.release(&scope, claim(2)).await.is_err());
    assert_eq!(
        recovered(async || store.claim(&scope, claim(3), MINUTE, MINUTE).await).await,
        ClaimOutcome::Claimed
    );
    store.release(&scope, claim(2)).await.unwrap();
    store.abandon(&scope, claim(2)).await.unwrap();
    assert_eq!(claims(4).await, ClaimOutcome::Pending(claim(3)));

    let complete = async || {
        store
            .complete(&scope, claim(3), answer.clone(), MINUTE)
            .await
    };
    let _ = store
        .complete(&self::scope("told"), claim(3), Bytes::new(), MINUTE)
        .await;
    assert_eq!(
        twice(&proxy, complete).await,
        Completion::Already(answer.clone())
    );
    let late = store
        .complete(&scope, claim(4), Bytes::from_static(b"other"), MINUTE)
        .await;
    assert_eq!(late, Ok(Completion::Already(answer.clone())));
    let (fingerprint, said) = ([1; 32], claims(4).await);
    assert_eq!(
        said,
        ClaimOutcome::Answered {
            fingerprint,
            answer
        }
    );
}

/// The server hears it twice, and whoever calls is told the second time.
async fn twice<T: std::fmt::Debug>(
    proxy: &Proxy,
    call: impl AsyncFn() -> Result<T, StoreError>,
) -> T {
    proxy.next("EVALSHA", Fate::AnswerLost, 1);
    let lost = call().await;
    assert!(
        matches!(lost, Err(StoreError::Unavailable { .. })),
        "{lost:?}"
    );
    recovered(call).await
}

/// Until there is a connection again.
async fn recovered<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> T {
    let began = Instant::now();
    loop {
        match call().await {
            Ok(told) => return told,
            Err(error) => assert!(
                began.elapsed() < MINUTE,
                "the store did not recover: {error}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_forgot_the_scripts_are_told_them_again() {
    let alone = [Redis::own()];
    let url = alone[0].url();
    forgets_the_scripts(&url, &alone).await;
    let members = Redis::cluster();
    let url = format!("redis+cluster://127.0.0.1:{}", members[0].port);
    forgets_the_scripts(&url, &members).await;
}

/// Before every call.
async fn forgets_the_scripts(url: &str, servers: &[Redis]) {
    let forget = || {
        servers.iter().for_each(|server| {
            server.command(&["script", "flush"]);
        });
    };
    let store = store(url, patient("forgetful"));
    let (scope, answer) = (scope("k"), Bytes::from_static(b"answer"));
    let claims = async |holder| {
        forget();
        store.claim(&scope, claim(holder), MINUTE, MINUTE).await
    };
    for _ in 0..2 {
        assert_eq!(claims(1).await, Ok(ClaimOutcome::Claimed));
        assert_eq!(claims(2).await, Ok(ClaimOutcome::Pending(claim(1))));
        forget();
        assert_eq!(store.abandon(&scope, claim(1)).await, Ok(()));
        assert_eq!(claims(2).await, Ok(ClaimOutcome::TakenOver(claim(2))));
        forget();
        assert_eq!(store.release(&scope, claim(2)).await, Ok(()));
    }
    assert_eq!(claims(3).await, Ok(ClaimOutcome::Claimed));
    forget();
    let stored = store
        .complete(&scope, claim(3), answer.clone(), MINUTE)
        .await;
    assert_eq!(stored, Ok(Completion::Stored));
    let (fingerprint, said) = ([1; 32], claims(4).await);
    assert_eq!(
        said,
        Ok(ClaimOutcome::Answered {
            fingerprint,
            answer
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_yet_is_waited_for_with_the_first_call() {
    let mut server = Redis::own();
    server.stop();
    for url in [
        server.url(),
        format!("redis+cluster://127.0.0.1:{}", server.port),
        format!("redis+sentinel://127.0.0.1:{}/claims", server.port),
    ] {
        let store = store(&url, RedisSettings::default());
        let refused = store.claim(&scope("k"), claim(1), MINUTE, MINUTE).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable { .. })),
            "{url}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn installations_of_one_server_do_not_mix() {
    let one = store(&redis().url(), patient("one"));
    let other = store(&redis().url(), patient("other"));
    assert_eq!(
        one.claim(&scope("k"), claim(1), MINUTE, MINUTE).await,
        Ok(ClaimOutcome::Claimed)
    );
    assert_eq!(
        other.claim(&scope("k"), claim(1), MINUTE, MINUTE).await,
        Ok(ClaimOutcome::Claimed)
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_unreadable() {
    let store = store(&redis().url(), patient("nonsense"));
    for (n, words) in [
        ["set", "KEY", "x", ""],
        ["hset", "KEY", "fingerprint", "short"],
    ]
    .into_iter()
    .enumerate()
    {
        let scope = scope(&format!("nonsense {n}"));
        let key = entry::key("nonsense", &scope);
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let words: Vec<&str> = words
            .into_iter()
            .map(|word| if word == "KEY" { &key } else { word })
            .collect();
        redis().command(&words);
        if n == 1 {
            redis().command(&[
                "hset",
                &key,
                "write",
                "w",
                "holder",
                "h",
                "lease_until",
                "99999999999999",
            ]);
        }
        let refused = store.claim(&scope, claim(1), MINUTE, MINUTE).await;
        assert!(
            matches!(refused, Err(StoreError::Unreadable { .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_forget_is_doubted() {
    let server = Redis::own();
    let store = store(&server.url(), patient("doubted"));
    assert_eq!(store.doubts().await.unwrap(), [""; 0]);
    server.command(&[
        "config",
        "set",
        "maxmemory",
        "100mb",
        "maxmemory-policy",
        "allkeys-lru",
        "appendonly",
        "no",
    ]);
    assert_eq!(store.doubts().await.unwrap().len(), 2);
}

#[tokio::test]
async fn entries_end_by_themselves() {
    let store = store(&redis().url(), patient("ending"));
    let day = Duration::from_secs(24 * 3600);
    store
        .claim(&scope("pending"), claim(1), MINUTE, day)
        .await
        .unwrap();
    store
        .complete(&scope("done"), claim(1), Bytes::from_static(b"x"), day)
        .await
        .unwrap();
    for name in ["pending", "done"] {
        let left = redis().command(&["pttl", &entry::key("ending", &scope(name))]);
        let left = Duration::from_millis(left.trim().parse().unwrap());
        assert!(left <= day && left > day - MINUTE, "{left:?}");
    }
}

/// One round trip a call: what the server has counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_one_command() {
    let server = Redis::own();
    let store = store(&server.url(), patient("counted"));
    store
        .claim(&scope("first"), claim(1), MINUTE, MINUTE)
        .await
        .unwrap(); // tells the script
    store
        .complete(&scope("first"), claim(1), Bytes::new(), MINUTE)
        .await
        .unwrap();
    server.command(&["config", "resetstat"]);
    let mut delays = Vec::new();
    for n in 0..2000 {
        let (scope, began) = (scope(&n.to_string()), Instant::now());
        store.claim(&scope, claim(1), MINUTE, MINUTE).await.unwrap();
        delays.push(began.elapsed());
        store
            .complete(&scope, claim(1), Bytes::from_static(b"answer"), MINUTE)
            .await
            .unwrap();
    }
    delays.sort();
    println!(
        "a claim, synced to disk: median {:?}, 99 of 100 within {:?}",
        delays[1000], delays[1980]
    );
    let stats = server.command(&["info", "commandstats"]);
    assert!(stats.contains("cmdstat_evalsha:calls=4000,"), "{stats}");
    assert!(
        !stats.contains("cmdstat_eval:") && !stats.contains("cmdstat_script"),
        "{stats}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_may_call_at_once() {
    let store = store(&redis().url(), patient("many"));
    let began = Instant::now();
    let all = join_all((0..1000).map(async |n| {
        store
            .claim(&scope(&n.to_string()), claim(n), MINUTE, MINUTE)
            .await
    }));
    for outcome in all.await {
        assert_eq!(outcome, Ok(ClaimOutcome::Claimed));
    }
    println!("1000 claims at once: {:?}", began.elapsed());
    let mut delays = Vec::new();
    for n in 0..2000 {
        let (scope, began) = (scope(&format!("later {n}")), Instant::now());
        store.claim(&scope, claim(1), MINUTE, MINUTE).await.unwrap();
        delays.push(began.elapsed());
    }
    delays.sort();
    println!(
        "a claim, in memory: median {:?}, 99 of 100 within {:?}",
        delays[1000], delays[1980]
    );
    let late = store
        .complete(&scope("1"), claim(1), Bytes::from_static(b"a"), MINUTE)
        .await;
    assert_eq!(late, Ok(Completion::Stored));
}

async fn conforms(url: &str, authorities: Option<Vec<u8>>) {
    let counter = std::sync::atomic::AtomicU32::new(0);
    let fresh = async || {
        let n = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let settings = RedisSettings {
            authorities: authorities.clone(),
            ..patient(&format!("{url} {n}"))
        };
        store(url, settings)
    };
    conformance::idempotency_store(fresh, tokio::time::sleep).await;
}

fn store(url: &str, settings: RedisSettings) -> RedisIdempotency {
    RedisIdempotency::new(&url.parse().unwrap(), settings).unwrap()
}

/// For machines that are busy with other tests.
fn patient(namespace: &str) -> RedisSettings {
    RedisSettings {
        namespace: namespace.to_owned(),
        call_timeout: MINUTE,
        authorities: None,
    }
}

fn scope(idempotency_key: &str) -> IdempotencyScope {
    let record = RecordKey::new(PartitionId(7), &TenantId::new("t").unwrap(), "k");
    IdempotencyScope {
        record,
        idempotency_key: idempotency_key.to_owned(),
    }
}

fn claim(holder: u64) -> Claim {
    Claim {
        fingerprint: [1; 32],
        write_id: WriteId(1),
        stamp: Stamp(1),
        holder,
    }
}
