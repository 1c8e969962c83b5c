//! NBD servers of others: `qemu-nbd` and `nbdkit`.

use super::until;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

pub struct NbdServer {
    pub socket: PathBuf,
    child: Child,
}

impl NbdServer {
    fn start(program: &str, arguments: &[&str], socket: &Path) -> NbdServer {
        let _ = std::fs::remove_file(socket);
        let child = Command::new(program).args(arguments).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
        until("the NBD server's socket", || {
            UnixStream::connect(socket).ok()
        });
        NbdServer {
            socket: socket.to_owned(),
            child,
        }
    }

    /// `qemu-nbd` on an image.
    pub fn qemu(image: &Path, format: &str, socket: &Path) -> NbdServer {
        let (image, path) = (image.to_str().unwrap(), socket.to_str().unwrap());
        Self::start(
            "qemu-nbd",
            &["-t", "-e", "16", "-f", format, "-k", path, image],
            socket,
        )
    }

    /// `qemu-nbd` on a raw image below QEMU's `blkdebug` with these rules.
    pub fn blkdebug(image: &Path, rules: &str, socket: &Path) -> NbdServer {
        let (image, path) = (image.to_str().unwrap(), socket.to_str().unwrap());
        let options = format!(
            "driver=raw,file.driver=blkdebug,{rules},file.image.driver=file,file.image.filename={image}"
        );
        let arguments = ["-t", "-e", "16", "-k", path, "--image-opts", &options];
        Self::start("qemu-nbd", &arguments, socket)
    }

    /// `nbdkit` with a plug-in and filters, as on its command line.
    pub fn nbdkit(arguments: &[&str], socket: &Path) -> NbdServer {
        let mut all = vec!["-f", "--exit-with-parent", "-U", socket.to_str().unwrap()];
        all.extend_from_slice(arguments);
        Self::start("nbdkit", &all, socket)
    }

    /// SIGSTOP or SIGCONT: the disk stands still, or goes on.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        // SIGTERM first: qcow2 wants to be closed. nbdkit then waits for its clients to go, so not
        // for ever.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        for _ in 0..100 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
