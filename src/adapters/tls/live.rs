//! What was made from files, made anew when they change.
//!
//! What was made last goes on being used while the files are broken: half a rotation must not take a process down.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures::StreamExt;
use metrics::{counter, gauge};
use tokio::task::AbortHandle;

use super::error::TlsError;
use crate::adapters::files;
use crate::adapters::vitals::{Vitals, keep};

/// Metrics that nobody sets are forgotten after a while, and certificates that end are worth being told of again.
const SHOW_EVERY: Duration = Duration::from_secs(60);

/// The newest that could be made. Its end ends the looking at files.
pub(super) struct Live<T> {
    current: Arc<ArcSwap<T>>,
    watching: AbortHandle,
}

impl<T: Send + Sync + 'static> Live<T> {
    /// Makes it and looks at the files from then on. `expires` tells when a certificate of it ends.
    ///
    /// # Errors
    /// When it can't be made now; later that is logged and counted.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn start(
        section: &'static str,
        paths: Vec<PathBuf>,
        interval: Duration,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
        expires: fn(&T) -> Option<i64>,
    ) -> Result<Self, TlsError> {
        // Looked at before they are read, so no change is missed.
        let changes = files::changes(paths, interval);
        let first = make()?;
        show(section, expires(&first), false);
        let current = Arc::new(ArcSwap::from_pointee(first));
        let make = Arc::new(make);
        let renewed = Arc::clone(&current);
        let watch = async move {
            let (mut changes, mut broken) = (pin!(changes), false);
            loop {
                match tokio::time::timeout(SHOW_EVERY, changes.next()).await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => {
                        show(section, expires(&renewed.load()), broken);
                        continue;
                    }
                }
                let make = Arc::clone(&make);
                let made = tokio::task::spawn_blocking(move || make()).await;
                let Ok(made) = made else {
                    tracing::error!(section, "reading the certificates again panicked");
                    continue; // or the runtime ends
                };
                broken = made.is_err();
                match made {
                    Ok(made) => {
                        show(section, expires(&made), false);
                        renewed.store(Arc::new(made));
                        counter!("tls_reloads_total", "section" => section, "outcome" => "used")
                            .increment(1);
                        tracing::info!(
                            section,
                            "certificates were read again; new connections use them"
                        );
                    }
                    Err(error) => {
                        show(section, expires(&renewed.load()), true);
                        counter!("tls_reloads_total", "section" => section, "outcome" => "refused")
                            .increment(1);
                        tracing::warn!(section, %error, way_out = error.way_out, "the certificates in use stay as they were");
                    }
                }
            }
        };
        let watching = tokio::spawn(keep(Vitals::process(), "watch of certificates", watch));
        Ok(Self {
            current,
            watching: watching.abort_handle(),
        })
    }

    /// The newest.
    pub(super) fn load(&self) -> Arc<T> {
        self.current.load_full()
    }
}

impl<T> Drop for Live<T> {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Puts what is in use into the metrics, and a certificate that has ended into the log.
fn show(section: &'static str, expires: Option<i64>, broken: bool) {
    gauge!("tls_files_broken", "section" => section).set(f64::from(u8::from(broken)));
    let Some(expires) = expires else { return };
    gauge!("tls_certificate_expires_timestamp_seconds", "section" => section).set(expires as f64);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    if now.is_ok_and(|now| i64::try_from(now.as_secs()).is_ok_and(|now| now >= expires)) {
        tracing::warn!(
            section,
            "the certificate has expired: nobody who checks it will connect"
        );
    }
}
