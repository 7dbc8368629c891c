//! Directories that are still there after a loss of power.
//!
//! A file that was synced is found again only if its name was synced, too, which is in its directory; and that one's
//! name is in the directory above it.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a directory and those that it is in, as far as they are missing, with these rights. Their names are on the
/// disk when this returns; so is the name of one that was there, because whoever made it may have been killed before.
///
/// # Errors
/// When one can't be made, or is no directory.
pub fn make(directory: &Path, mode: u32) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing = directory.ancestors().take_while(is_missing).count();
    let mut make = DirBuilder::new();
    make.recursive(true).mode(mode).create(directory)?;
    let unsure = directory.ancestors().take(missing.max(1));
    unsure.filter_map(Path::parent).try_for_each(sync)
}

/// Puts all names in a directory on the disk.
///
/// # Errors
/// When that can't be done.
pub fn sync(directory: &Path) -> io::Result<()> {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    match File::open(directory) {
        Ok(directory) => directory.sync_all(),
        // Who may not read it can't sync it, and has to trust whoever gave him a place in it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_with_those_that_it_is_in_and_may_be_there() {
        let there = tempfile::tempdir().unwrap();
        let deep = there.path().join("a/b/c");
        for _ in 0..2 {
            make(&deep, 0o700).unwrap();
            assert!(deep.is_dir());
        }
        make(Path::new("/"), 0o700).unwrap();
        std::fs::write(there.path().join("file"), "").unwrap();
        assert!(make(&there.path().join("file/d"), 0o700).is_err());
    }
}
