//! Room on the disk, watched so that the engine never meets its end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::ports::StorageError;

/// The system is asked this often at most, and after this many bytes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_EVERY_BYTES: u64 = 8 * 1024 * 1024;

/// How full the disk of `directory` is, as its users see it.
pub(super) fn used_percent(directory: &Path) -> Option<u8> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let reachable = used.saturating_add(disk.f_bavail);
    u8::try_from(used.saturating_mul(100).div_ceil(reachable.max(1))).ok()
}

/// Free space of the disk that has the data directory.
pub(super) struct DiskSpace {
    directory: PathBuf,
    reserve: u64,
    free: u64,
    looked: Option<Instant>,
    taken_since: u64,
}

impl DiskSpace {
    pub(super) fn new(directory: &Path, reserve: u64) -> Self {
        Self {
            directory: directory.into(),
            reserve,
            free: u64::MAX,
            looked: None,
            taken_since: 0,
        }
    }

    /// Whether `bytes` more may be written.
    pub(super) fn check(&mut self, bytes: u64) -> Result<(), StorageError> {
        self.taken_since = self.taken_since.saturating_add(bytes);
        let stale = self
            .looked
            .is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        if stale || self.taken_since >= LOOK_EVERY_BYTES {
            self.look();
            self.taken_since = bytes;
        }
        if self.free < self.reserve.saturating_add(self.taken_since) {
            let (free, reserve) = (self.free / 1024, self.reserve / 1024);
            return Err(StorageError::Full(format!(
                "{free} KiB are free, {reserve} KiB are kept in reserve"
            )));
        }
        Ok(())
    }

    /// Whether there is room now.
    pub(super) fn check_now(&mut self) -> Result<(), StorageError> {
        self.looked = None;
        self.check(0)
    }

    /// A system that can't tell does not stop writes.
    fn look(&mut self) {
        self.looked = Some(Instant::now());
        self.free = match rustix::fs::statvfs(&self.directory) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
            Err(error) => {
                tracing::warn!(%error, "the free space of the data directory can't be found out");
                u64::MAX
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_full_the_disk_is() {
        let directory = tempfile::tempdir().unwrap();
        assert!(used_percent(directory.path()).is_some_and(|percent| percent <= 100));
        assert_eq!(used_percent(Path::new("/no/such/directory")), None);
    }

    #[test]
    fn refuses_what_would_eat_into_the_reserve() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(DiskSpace::new(directory.path(), 0).check(1), Ok(()));
        let refused = DiskSpace::new(directory.path(), u64::MAX - 10).check(1);
        assert!(matches!(refused, Err(StorageError::Full(_))), "{refused:?}");
    }

    #[test]
    fn counts_what_was_written_since_it_looked() {
        let directory = tempfile::tempdir().unwrap();
        let mut space = DiskSpace::new(directory.path(), 0);
        space.check(0).unwrap();
        space.free = 100;
        space.looked = Some(Instant::now() + Duration::from_secs(60));
        assert_eq!(space.check(60), Ok(()));
        assert!(space.check(60).is_err());
    }
}
