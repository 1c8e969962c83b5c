//! Whether an open file is still the VDISK: it can be deleted, replaced or cut while we hold it open.

use crate::trouble::{Trouble, TroubleCode};
use rustix::fs::{SeekFrom, seek};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Demands that `path` names the open `file`, and that this has `size` bytes.
pub(super) fn check(file: &File, path: &Path, size: u64) -> Result<(), Trouble> {
    let shown = path.display();
    let open = file.metadata().map_err(|error| lost(path, &error))?;
    let named = match std::fs::metadata(path) {
        Err(_) if open.nlink() == 0 => {
            let text =
                format!("{shown} was deleted while it was open; put the VDISK back and retry");
            return Err(Trouble::new(TroubleCode::EndpointGone, text));
        }
        named => named.map_err(|error| lost(path, &error))?,
    };
    if identity(&open) != identity(&named) {
        let text = format!(
            "{shown} is not what was opened any more: it was replaced; put the VDISK back, or retry to use what is there now"
        );
        return Err(Trouble::new(TroubleCode::EndpointGone, text));
    }
    let found = match open.file_type().is_block_device() {
        true => seek(file, SeekFrom::End(0)).map_err(|error| lost(path, &error.into()))?,
        false => open.len(),
    };
    if found == size {
        return Ok(());
    }
    let text = format!(
        "{shown} has {found} bytes now, the VDISK {size}: it was resized while it was open; bring it back to its size and retry"
    );
    Err(Trouble::new(TroubleCode::SizeMismatch, text))
}

fn lost(path: &Path, error: &io::Error) -> Trouble {
    let text = format!(
        "{} is not where it was opened: {error}; put the VDISK back and retry",
        path.display()
    );
    Trouble::new(TroubleCode::EndpointGone, text)
}

/// A block device is what its number says, wherever its node lies.
fn identity(metadata: &Metadata) -> (u64, u64) {
    match metadata.file_type().is_block_device() {
        true => (0, metadata.rdev()),
        false => (metadata.dev(), metadata.ino()),
    }
}

/// What a journal recognises a file by. Its time of birth is in it, where the file system keeps one,
/// since the inode of a deleted file is soon given to another.
pub(super) fn medium_of(metadata: &Metadata) -> u64 {
    let born = metadata.created().ok();
    let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or(0, |born| born.as_nanos() as u64);
    metadata.ino() ^ born.rotate_left(32)
}

/// Makes a new file's name as durable as its content: without this a power cut can take the file.
pub(super) fn keep_new(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
