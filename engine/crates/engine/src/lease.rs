//! One engine per state folder, one per socket.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use tokio::net::UnixListener;

/// Makes the state folder (mode 0700) if it is missing and holds it until the file is dropped.
pub fn hold(state: &Path) -> Result<File, String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(|error| {
            format!(
                "making the state folder {} failed: {error}",
                state.display()
            )
        })?;
    let path = state.join("lock");
    let file = File::create(&path)
        .map_err(|error| format!("opening {} failed: {error}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        format!(
            "another drover-engine holds the state folder {}; stop it first",
            state.display()
        )
    })?;
    Ok(file)
}

/// Binds the API's socket. What a dead engine has left there is replaced, a living one is not.
pub fn bind(api: &Path) -> Result<UnixListener, String> {
    if UnixStream::connect(api).is_ok() {
        return Err(format!(
            "another process answers on {}; choose another socket",
            api.display()
        ));
    }
    match fs::remove_file(api) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(format!(
                "removing the old socket {} failed: {error}",
                api.display()
            ));
        }
        _ => {}
    }
    // The socket is made under a name of its own in mode 0600 and only then shown.
    let hidden = api.with_extension(format!("new-{}", std::process::id()));
    let failed = |error| format!("making the socket {} failed: {error}", api.display());
    let _ = fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(failed)?;
    fs::set_permissions(&hidden, Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&hidden, api).map_err(failed)?;
    Ok(listener)
}
