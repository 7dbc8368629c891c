//! What goes wrong at a store outside the process.

/// A metadata or idempotency store could not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable or not answering in time; whether the change was made is unknown.
    #[error("{store} is unavailable: {cause}")]
    Unavailable {
        /// Which store, for people: "metadata store", "idempotency store".
        store: &'static str,
        /// The adapter's own words, without secrets.
        cause: String,
    },
    /// It did not answer before the deadline of whoever asked, which says nothing about the store; whether the change
    /// was made is unknown.
    #[error("{store} did not answer before the deadline")]
    Late {
        /// Which store.
        store: &'static str,
    },
    /// What is stored can't be read: another version wrote it, or it is damaged.
    #[error("{store} holds something unreadable: {cause}")]
    Unreadable {
        /// Which store.
        store: &'static str,
        /// What was found.
        cause: String,
    },
}
