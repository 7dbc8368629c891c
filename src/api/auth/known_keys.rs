//! The API keys that were asked for lately, so that not every request asks the metadata store.
//!
//! Bounded, with a time to live; the same key is fetched once for many; that there is no such key is remembered, too. A
//! key that changed is forgotten as soon as the store tells of it. While the store does not answer, keys known before
//! go on being good for a bounded time: a revocation needs the store as well.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use quick_cache::sync::Cache;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use super::AuthSettings;
use crate::ports::{ApiKey, ApiKeyId, StoreError};

/// The longest wait for the store, that for a place among the look-ups included.
const LOOK_UP_MAX: Duration = Duration::from_secs(2);

/// How long the store is left alone after it failed to tell of a key that is known.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Look-ups at once of keys that nobody asked for before: made-up keys must not keep the store busy. Further ones fail
/// at once.
const LOOK_UPS_MAX: usize = 32;

/// Look-ups at once of keys that are known to exist, which made-up keys don't keep from being refreshed.
const REFRESHES_MAX: usize = 32;

/// Where keys come from.
pub(super) type Source =
    Box<dyn Fn(ApiKeyId) -> BoxFuture<'static, Result<Option<ApiKey>, StoreError>> + Send + Sync>;

/// Keys in mind.
pub(super) struct KnownKeys {
    source: Source,
    look_ups: Semaphore,
    refreshes: Semaphore,
    /// Does not let many keys that are asked for once drive out those that are asked for often.
    slots: Cache<ApiKeyId, Arc<Slot>>,
    ttl: Duration,
    outage_max: Duration,
}

#[derive(Default)]
struct Slot {
    known: ArcSwapOption<Known>,
    /// Whose turn it is to ask the store.
    turn: Mutex<()>,
}

#[derive(Clone)]
struct Known {
    key: Option<Arc<ApiKey>>,
    fresh_until: Instant,
    told_at: Instant,
}

impl KnownKeys {
    pub(super) fn new(settings: &AuthSettings, source: Source) -> Self {
        Self {
            source,
            look_ups: Semaphore::new(LOOK_UPS_MAX),
            refreshes: Semaphore::new(REFRESHES_MAX),
            slots: Cache::new(settings.keys_max),
            ttl: settings.key_ttl,
            outage_max: settings.key_outage_max,
        }
    }

    /// The key, if there is one.
    pub(super) async fn get(&self, id: &ApiKeyId) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let slot = match self
            .slots
            .get_or_insert_with(id, || Ok::<_, Infallible>(Arc::default()))
        {
            Ok(slot) => slot,
            Err(never) => match never {},
        };
        if let Some(key) = slot.fresh() {
            return Ok(key);
        }
        let _turn = slot.turn.lock().await;
        if let Some(key) = slot.fresh() {
            return Ok(key); // asked for meanwhile
        }
        let asked_at = Instant::now();
        match self.look_up(id, slot.is_a_key()).await {
            Ok(key) => {
                let key = key.map(Arc::new);
                slot.known.store(Some(Arc::new(Known {
                    key: key.clone(),
                    fresh_until: asked_at + self.ttl,
                    told_at: asked_at,
                })));
                Ok(key)
            }
            Err(error) => {
                let known = slot.known.load_full();
                let known = known
                    .filter(|known| {
                        known.key.is_some() && known.told_at.elapsed() < self.outage_max
                    })
                    .ok_or(error)?;
                slot.known.store(Some(Arc::new(Known {
                    fresh_until: (Instant::now() + PAUSE_AFTER_FAILURE)
                        .min(known.told_at + self.outage_max),
                    ..Known::clone(&known)
                })));
                Ok(known.key.clone())
            }
        }
    }

    async fn look_up(&self, id: &ApiKeyId, is_known: bool) -> Result<Option<ApiKey>, StoreError> {
        let unavailable = |cause: &str| StoreError::Unavailable {
            store: "metadata store",
            cause: cause.into(),
        };
        let asking = async {
            let _place = match is_known {
                true => self.refreshes.acquire().await,
                false => Ok(self
                    .look_ups
                    .try_acquire()
                    .map_err(|_| unavailable("too many unknown API keys are asked for"))?),
            };
            (self.source)(id.clone()).await
        };
        timeout(LOOK_UP_MAX, asking)
            .await
            .unwrap_or_else(|_| Err(unavailable("no answer to what an API key is in time")))
    }

    /// Has a key that changed fetched anew. What is being fetched now goes to a slot that nobody finds any more.
    pub(super) fn forget(&self, id: &ApiKeyId) {
        self.slots.remove(id);
    }

    /// Has every key that is known asked for anew before it is used again. While the store does not answer they stay
    /// good, as others do whose time is over.
    pub(super) fn forget_all(&self) {
        let slots: Vec<(ApiKeyId, Arc<Slot>)> = self.slots.iter().collect();
        for (id, slot) in slots {
            self.slots.insert(id, Arc::new(slot.outdated()));
        }
    }
}

impl Slot {
    fn is_a_key(&self) -> bool {
        let known = self.known.load();
        known.as_ref().is_some_and(|known| known.key.is_some())
    }

    /// The same, to be asked for before it is used.
    fn outdated(&self) -> Self {
        let known = self.known.load();
        let outdated = known.as_ref().map(|known| {
            Arc::new(Known {
                fresh_until: Instant::now(),
                ..Known::clone(known)
            })
        });
        Self {
            known: ArcSwapOption::new(outdated),
            turn: Mutex::default(),
        }
    }

    fn fresh(&self) -> Option<Option<Arc<ApiKey>>> {
        let known = self.known.load();
        let known = known.as_ref()?;
        (Instant::now() < known.fresh_until).then(|| known.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use futures::future::join_all;

    use super::*;
    use crate::ports::{TenantId, TenantRole};

    fn key(number: u64) -> ApiKey {
        ApiKey {
            id: ApiKeyId::from_bits(number),
            tenant: TenantId::new("t").unwrap(),
            role: TenantRole::Read,
            secret_hash: [0; 32],
            created_at: 0,
            revoked_at: None,
        }
    }

    fn short() -> AuthSettings {
        AuthSettings {
            key_ttl: Duration::from_millis(200),
            key_outage_max: Duration::from_millis(600),
            ..AuthSettings::default()
        }
    }

    /// Keys with even numbers exist, until the store fails.
    struct Store {
        asked: AtomicUsize,
        failing: std::sync::atomic::AtomicBool,
    }

    fn keys(settings: &AuthSettings) -> (Arc<Store>, KnownKeys) {
        let store = Arc::new(Store {
            asked: AtomicUsize::new(0),
            failing: false.into(),
        });
        let asked = Arc::clone(&store);
        let source = move |id: ApiKeyId| {
            let store = Arc::clone(&asked);
            async move {
                store.asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
                if store.failing.load(Ordering::SeqCst) {
                    let (store, cause) = ("metadata store", "down".to_owned());
                    return Err(StoreError::Unavailable { store, cause });
                }
                let number = u64::from_str_radix(id.as_str(), 16).unwrap();
                Ok(number.is_multiple_of(2).then(|| key(number)))
            }
            .boxed()
        };
        (store, KnownKeys::new(settings, Box::new(source)))
    }

    #[tokio::test(start_paused = true)]
    async fn many_ask_and_one_asks_the_store() {
        let (store, keys) = keys(&short());
        for id in [2, 3].map(ApiKeyId::from_bits) {
            let answers = join_all((0..20).map(|_| keys.get(&id))).await;
            assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
        }
        assert_eq!(store.asked.load(Ordering::SeqCst), 2);
        tokio::time::sleep(short().key_ttl).await;
        keys.get(&ApiKeyId::from_bits(2)).await.unwrap();
        assert_eq!(store.asked.load(Ordering::SeqCst), 3, "its time was over");
        keys.forget(&ApiKeyId::from_bits(2));
        keys.get(&ApiKeyId::from_bits(2)).await.unwrap();
        assert_eq!(store.asked.load(Ordering::SeqCst), 4, "it had changed");
    }

    #[tokio::test(start_paused = true)]
    async fn when_changes_were_missed_every_key_is_asked_for_anew() {
        let (store, keys) = keys(&AuthSettings::default());
        let ids = [2, 3].map(ApiKeyId::from_bits);
        for id in &ids {
            keys.get(id).await.unwrap();
        }
        keys.forget_all();
        for id in &ids {
            keys.get(id).await.unwrap();
        }
        assert_eq!(store.asked.load(Ordering::SeqCst), 4);
        keys.forget_all();
        store.failing.store(true, Ordering::SeqCst);
        assert_eq!(*keys.get(&ids[0]).await.unwrap().unwrap(), key(2));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_store_is_down_known_keys_are_good_for_a_while_and_others_are_not() {
        let settings = short();
        let (store, keys) = keys(&settings);
        let [known, none, other] = [2, 3, 4].map(ApiKeyId::from_bits);
        assert_eq!(*keys.get(&known).await.unwrap().unwrap(), key(2));
        assert_eq!(keys.get(&none).await, Ok(None));
        store.failing.store(true, Ordering::SeqCst);
        tokio::time::sleep(settings.key_ttl).await;
        assert!(keys.get(&known).await.unwrap().is_some());
        let asked = store.asked.load(Ordering::SeqCst);
        assert!(keys.get(&known).await.unwrap().is_some());
        assert_eq!(
            store.asked.load(Ordering::SeqCst),
            asked,
            "left alone for a while"
        );
        assert!(keys.get(&none).await.is_err());
        assert!(keys.get(&other).await.is_err());
        tokio::time::sleep(settings.key_outage_max).await;
        assert!(keys.get(&known).await.is_err(), "not for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_mind_is_bounded() {
        let settings = AuthSettings {
            keys_max: 100,
            ..AuthSettings::default()
        };
        let (_store, keys) = keys(&settings);
        let ids: Vec<_> = (0..1000).map(ApiKeyId::from_bits).collect();
        join_all(ids.iter().map(|id| keys.get(id))).await;
        assert!(keys.slots.len() <= 200, "{}", keys.slots.len());
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_keys_do_not_keep_known_ones_from_being_refreshed() {
        let (_store, keys) = keys(&short());
        let known = ApiKeyId::from_bits(2);
        assert!(keys.get(&known).await.unwrap().is_some());
        tokio::time::sleep(short().key_ttl).await;
        let made_up: Vec<_> = (0..1000).map(|n| ApiKeyId::from_bits(2 * n + 1)).collect();
        let flood = join_all(made_up.iter().map(|id| keys.get(id)));
        let (refused, found) = futures::join!(flood, keys.get(&known));
        assert!(found.unwrap().is_some());
        let refused = refused.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(refused, made_up.len() - LOOK_UPS_MAX, "at once");
    }
}
