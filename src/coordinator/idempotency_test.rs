//! How claims end: with their attempt, however that does. And what is answered while the store is away.

use std::time::Duration;

use super::test_cluster::{Mood, StoreMood, TestCluster, TestWorld, read, write};
use super::wait::before;
use super::{
    Coordinator, CoordinatorError, CoordinatorSettings, IdempotencyOutage, WriteOutcome,
    WriteRequest,
};
use crate::placement::NodeId;
use crate::ports::{Clock, CoordinatorWorld, StoreError};
use crate::version::Stamp;

/// Much less than a claim's lease, and enough for an attempt.
const SOON: Duration = Duration::from_millis(300);

fn once(tenant: &str, value: &str, timeout: Duration) -> WriteRequest {
    WriteRequest {
        idempotency_key: Some("once".into()),
        timeout: Some(timeout),
        ..write(tenant, "k", value)
    }
}

struct Scene {
    cluster: TestCluster,
    coordinator: Coordinator<TestWorld>,
    owners: Vec<NodeId>,
}

impl Scene {
    fn new(idempotency_outage: IdempotencyOutage) -> Self {
        let cluster = TestCluster::new();
        let coordinator = cluster.coordinator_with(CoordinatorSettings {
            idempotency_outage,
            ..CoordinatorSettings::default()
        });
        let owners = cluster.owners(&coordinator, "siblings", "k");
        Self {
            cluster,
            coordinator,
            owners,
        }
    }

    fn all_are(&self, mood: Mood) {
        for owner in &self.owners {
            self.cluster.set_mood(owner, mood);
        }
    }

    fn write(&self, request: WriteRequest) -> Result<WriteOutcome, CoordinatorError> {
        self.cluster.write(&self.coordinator, request)
    }

    /// There is one value, and not the same one twice.
    fn shows(&self, value: &str) {
        let shown = self.coordinator.read(read("siblings", "k"));
        let shown = self.cluster.run(shown).unwrap().values.into_iter();
        let shown: Vec<_> = shown.map(|shown| shown.value).collect();
        assert_eq!(shown, [value]);
    }
}

#[test]
fn a_failure_without_effect_frees_the_key_at_once() {
    let scene = Scene::new(IdempotencyOutage::Refuse);
    scene.all_are(Mood::Down);
    let error = scene.write(once("siblings", "a", SOON)).unwrap_err();
    assert!(!error.is_indeterminate(), "{error}");
    scene.all_are(Mood::Fine);
    // Even for another request: nothing came of the first one.
    scene.write(once("siblings", "b", SOON)).unwrap();
    scene.shows("b");
}

#[test]
fn a_deadline_leaves_the_claim_to_the_next_attempt() {
    let scene = Scene::new(IdempotencyOutage::Refuse);
    scene.all_are(Mood::LosesAnswers);
    let error = scene.write(once("siblings", "a", SOON)).unwrap_err();
    assert!(error.is_indeterminate(), "{error}");
    scene.all_are(Mood::Fine);
    let again = scene.write(once("siblings", "a", SOON)).unwrap();
    assert!(!again.is_duplicate && !again.without_idempotency);
    let error = scene.write(once("siblings", "b", SOON)).unwrap_err();
    assert!(
        matches!(error, CoordinatorError::IdempotencyKeyConflict { .. }),
        "{error}"
    );
    assert!(
        scene
            .write(once("siblings", "a", SOON))
            .unwrap()
            .is_duplicate
    );
    scene.shows("a");
}

#[test]
fn an_attempt_without_effect_gives_back_no_claim_of_another_one() {
    let scene = Scene::new(IdempotencyOutage::Refuse);
    scene.all_are(Mood::LosesAnswers);
    let error = scene.write(once("siblings", "a", SOON)).unwrap_err();
    assert!(error.is_indeterminate(), "{error}");
    scene.all_are(Mood::Down);
    scene.write(once("siblings", "a", SOON)).unwrap_err();
    scene.all_are(Mood::Fine);
    scene.write(once("siblings", "a", SOON)).unwrap();
    scene.shows("a");
}

#[test]
fn a_claimed_write_is_above_what_was_purged_of_its_tree() {
    let scene = Scene::new(IdempotencyOutage::Refuse);
    let (cluster, coordinator) = (&scene.cluster, &scene.coordinator);
    let ahead = Stamp::new(coordinator_ms(&scene) + 1_000, 0);
    for owner in cluster.owners(coordinator, "lww", "k") {
        cluster.purge_planted(coordinator, &owner, "k", ahead);
    }
    scene.write(once("lww", "v", SOON)).unwrap();
    let shown = cluster.read(coordinator, read("lww", "k"));
    assert_eq!(shown, Ok(["v".to_owned()].into()));
}

fn coordinator_ms(scene: &Scene) -> u64 {
    scene.cluster.world.clock().wall_ms()
}

#[test]
fn two_attempts_at_one_write_get_the_answer_of_who_stores_it_first() {
    let second = Duration::from_secs(1);
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator_with(CoordinatorSettings {
        idempotency_outage: IdempotencyOutage::Refuse,
        claim_lease: second,
        ..CoordinatorSettings::default()
    });
    for owner in cluster.owners(&coordinator, "siblings", "k") {
        cluster.set_mood(&owner, Mood::Slow(second));
    }
    let attempt = || coordinator.write(once("siblings", "a", 9 * second));
    let later = async {
        cluster.world.clock().sleep(second / 2).await;
        attempt().await
    };
    let (first, later) = cluster.run(futures::future::join(attempt(), later));
    let (first, later) = (first.unwrap(), later.unwrap());
    assert_eq!(
        (&first.clock, &first.context),
        (&later.clock, &later.context)
    );
    assert!(!first.without_idempotency && !later.without_idempotency);
}

#[test]
fn a_client_that_goes_away_leaves_the_claim_to_the_next_attempt() {
    let scene = Scene::new(IdempotencyOutage::Refuse);
    scene.all_are(Mood::Silent);
    let clock = scene.cluster.world.clock();
    let goes = clock.now() + Duration::from_millis(50);
    let first = scene
        .coordinator
        .write(once("siblings", "a", Duration::from_secs(5)));
    assert_eq!(scene.cluster.run(before(clock, goes, first)), None);
    scene.all_are(Mood::Fine);
    scene.write(once("siblings", "a", SOON)).unwrap();
    scene.shows("a");
}

#[test]
fn whoever_waits_for_another_attempt_is_told_so_and_gets_its_answer() {
    let scene = Scene::new(IdempotencyOutage::Refuse);
    scene.all_are(Mood::Slow(Duration::from_millis(1_000)));
    let slow = Duration::from_secs(4);
    let attempts = async {
        let first = scene.coordinator.write(once("siblings", "a", slow));
        let hasty = scene.coordinator.write(once("siblings", "a", SOON));
        let patient = scene.coordinator.write(once("siblings", "a", slow));
        futures::join!(first, hasty, patient)
    };
    let (first, hasty, patient) = scene.cluster.run(attempts);
    assert!(!first.unwrap().is_duplicate);
    let error = hasty.unwrap_err();
    assert!(
        matches!(&error, CoordinatorError::IdempotencyKeyInUse { key } if key == "once"),
        "{error}"
    );
    assert!(patient.unwrap().is_duplicate);
}

#[test]
fn a_short_deadline_is_no_outage_of_the_store() {
    for outage in [IdempotencyOutage::Degrade, IdempotencyOutage::Refuse] {
        let scene = Scene::new(outage);
        scene.cluster.set_store_mood(StoreMood::LosesAnswers);
        let error = scene.write(once("siblings", "a", SOON)).unwrap_err();
        assert!(
            matches!(error, CoordinatorError::Store(StoreError::Late { .. })),
            "{error}"
        );
        scene.cluster.set_store_mood(StoreMood::Fine);
        // The claim was made all the same. Who lost it knows that its attempt is over.
        scene.cluster.pass(Duration::from_millis(5));
        scene.write(once("siblings", "a", SOON)).unwrap();
        scene.shows("a");
    }
}

#[test]
fn while_the_store_is_away_writes_are_refused_or_marked_as_configured() {
    let scene = Scene::new(IdempotencyOutage::Refuse);
    for mood in [StoreMood::Down, StoreMood::OnlyClaims] {
        scene.cluster.set_store_mood(mood);
        let error = scene.write(once("siblings", "a", SOON)).unwrap_err();
        let is_made = mood == StoreMood::OnlyClaims;
        assert_eq!(error.is_indeterminate(), is_made, "{mood:?}: {error}");
        assert_eq!(
            matches!(error, CoordinatorError::AnswerNotKept(_)),
            is_made,
            "{mood:?}: {error}"
        );
    }
    scene.cluster.set_store_mood(StoreMood::Fine);
    // Repeated as it says, it is the same write. That the attempt was over could not be told, so its lease has to end.
    let again = scene.write(once("siblings", "a", SOON * 2)).unwrap();
    assert!(!again.without_idempotency);
    scene.shows("a");

    let scene = Scene::new(IdempotencyOutage::Degrade);
    for mood in [StoreMood::Down, StoreMood::OnlyClaims] {
        scene.cluster.set_store_mood(mood);
        let served = scene.write(once("siblings", "a", SOON)).unwrap();
        assert!(served.without_idempotency, "{mood:?}");
    }
}

#[test]
fn an_answer_is_kept_though_nobody_waits_for_it_any_more() {
    let scene = Scene::new(IdempotencyOutage::Refuse);
    scene.all_are(Mood::Slow(Duration::from_millis(20)));
    scene
        .cluster
        .set_store_mood(StoreMood::Slow(Duration::from_millis(10)));
    let clock = scene.cluster.world.clock();
    let first = scene.coordinator.write(once("siblings", "a", SOON));
    // Claimed after 10 ms, stamped after 30, joined after 50: the answer is on its way to the store.
    let goes = clock.now() + Duration::from_millis(51);
    assert_eq!(scene.cluster.run(before(clock, goes, first)), None);
    scene.cluster.pass(Duration::from_millis(15));
    let again = scene.write(once("siblings", "a", SOON)).unwrap();
    assert!(again.is_duplicate);
}
