//! Folders for the files of one run, in memory where the system has such a place.

use std::path::Path;
use tempfile::TempDir;

/// A folder that is removed when dropped.
pub(crate) fn fresh() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a folder for the files of this run")
}
