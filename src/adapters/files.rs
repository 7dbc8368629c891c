//! Files that somebody else changes while this process runs, such as certificates: looked at now and then.
//!
//! Their content is compared, not their times: what mounts secrets exchanges links, and clocks are coarse.

use std::path::PathBuf;
use std::time::Duration;

use futures::Stream;
use sha2::{Digest, Sha256};

/// Tells whenever the content of one of the files has changed since it was looked at last, first now. A file that can't
/// be read has no content. Never ends.
pub fn changes(paths: Vec<PathBuf>, interval: Duration) -> impl Stream<Item = ()> + Send {
    let mut seen = fingerprint(&paths);
    async_stream::stream! {
        loop {
            tokio::time::sleep(interval).await;
            let looked_at = paths.clone();
            let looking = tokio::task::spawn_blocking(move || fingerprint(&looked_at));
            if let Ok(now) = looking.await && now != seen {
                seen = now;
                yield ();
            }
        }
    }
}

fn fingerprint(paths: &[PathBuf]) -> Vec<Option<[u8; 32]>> {
    let of_one = |path: &PathBuf| Some(Sha256::digest(std::fs::read(path).ok()?).into());
    paths.iter().map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_change_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
        std::fs::write(&one, "a").unwrap();
        let mut changes = pin!(changes(
            vec![one.clone(), two.clone()],
            Duration::from_millis(5)
        ));
        let quiet = async |changes: &mut std::pin::Pin<&mut _>| {
            let next = StreamExt::next(changes);
            tokio::time::timeout(Duration::from_millis(50), next)
                .await
                .is_err()
        };
        assert!(quiet(&mut changes).await);
        std::fs::write(&two, "b").unwrap();
        changes.next().await.unwrap();
        assert!(quiet(&mut changes).await);
        std::fs::remove_file(&one).unwrap();
        changes.next().await.unwrap();
    }
}
