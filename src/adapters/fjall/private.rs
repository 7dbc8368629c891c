//! Only the owner reads what is stored.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::adapters::directories;

/// Directories lie in each other no deeper than this: what the engine makes is three deep.
const DEPTH_MAX: usize = 8;

/// Makes a directory for its owner, if there is none.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    directories::make(directory, 0o700)
}

/// Takes others' rights from the directory and all that is in it. What is not this user's stays as it is.
pub(super) fn hide(directory: &Path) {
    if let Err(error) = hide_all(directory, DEPTH_MAX) {
        tracing::warn!(%error, directory = %directory.display(), "others of this machine may read what is stored");
    }
}

fn hide_all(path: &Path, depth: usize) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let mode = meta.permissions().mode();
    if !meta.is_symlink() && mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
    }
    if !meta.is_dir() || depth == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        hide_all(&entry?.path(), depth - 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_others_rights_all_the_way_down() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a");
        make(&root.join("b")).unwrap();
        let file = root.join("b/c");
        fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        set(&root, 0o755);
        set(&root.join("b"), 0o750);
        set(&file, 0o644);
        hide(&root);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let modes = [mode(&root), mode(&root.join("b")), mode(&file)];
        assert_eq!(modes, [0o700, 0o700, 0o600]);
    }
}
