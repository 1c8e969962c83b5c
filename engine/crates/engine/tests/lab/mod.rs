//! Two real engines and what stands around them. The tests need `qemu-utils`, `qemu-system` (for
//! `qemu-storage-daemon`) and `nbdkit`.

// Every test binary uses a part of this.
#![allow(dead_code)]

mod certificates;
mod engine;
pub mod images;
pub mod nbd_servers;
pub mod proxy;
pub mod qmp;
pub mod sender;
pub mod stranger;

pub use certificates::Authority;
pub use engine::Engine;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest that anything in these tests may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `check` until it gives something.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An endpoint of type file.
pub fn file(path: &Path) -> Value {
    json!({ "type": "file", "path": path, "create": true })
}

/// An endpoint of type nbd.
pub fn nbd(socket: &Path, export: &str) -> Value {
    json!({ "type": "nbd", "socket": socket, "export": export })
}

/// A folder with certificates, a source engine and a destination engine.
pub struct Lab {
    pub authority: Authority,
    pub source: Engine,
    pub destination: Engine,
    /// Where the destination listens.
    pub address: String,
    /// Last, so that it outlives the engines that log into it.
    pub folder: TempDir,
}

impl Lab {
    /// Both engines run, the destination listens, the source is not connected yet.
    pub fn new() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let source = Engine::start(folder.path(), "source");
        let destination = Engine::start(folder.path(), "destination");
        let mut lab = Lab {
            folder,
            authority,
            source,
            destination,
            address: "127.0.0.1:0".into(),
        };
        lab.listen(1);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// PUTs the destination's link; the port stays the same.
    pub fn listen(&mut self, token: u64) {
        let mut link = self.authority.link("destination");
        link["listen"] = json!(self.address);
        link["token"] = json!(token);
        let answer = self.destination.ok("PUT", "/v1/link", link);
        self.address = answer["address"].as_str().unwrap().to_owned();
    }

    /// PUTs the source's link.
    pub fn connect(&self, address: &str, token: u64) {
        let mut link = self.authority.link("source");
        link["connect"] = json!(address);
        link["server_name"] = json!("destination.drover");
        link["connections"] = json!(4);
        link["compression"] = json!("auto");
        link["token"] = json!(token);
        self.source.ok("PUT", "/v1/link", link);
    }

    /// PUTs a VDISK on both sides and connects them.
    pub fn pair(&self, size: u64, source: Value, destination: Value) {
        self.destination.put_vdisk(size, destination);
        self.connect(&self.address, 1);
        self.source.put_vdisk(size, source);
    }

    pub fn start(&self, mode: &str) {
        self.source
            .ok("POST", "/v1/vdisks/vda/background", json!({ "mode": mode }));
    }

    pub fn wait_clean(&self) -> Value {
        until("a clean VDISK", || {
            let vdisk = self.source.vdisk();
            assert_ne!(vdisk["state"], "held", "{vdisk}");
            (vdisk["state"] == "clean" && vdisk["background"]["state"] == "done").then_some(vdisk)
        })
    }

    /// Verifies everything and returns the status with the roots.
    pub fn verify(&self, scope: &str, repair: bool) -> Value {
        let body = json!({ "scope": scope, "repair": repair });
        self.source.ok("POST", "/v1/vdisks/vda/verify", body);
        until("the end of the verification", || {
            let vdisk = self.source.vdisk();
            (vdisk["verify"]["state"] == "done").then_some(vdisk)
        })
    }

    /// Copies, verifies, and demands equal roots.
    pub fn copy_and_verify(&self) -> Value {
        self.start("copy");
        self.wait_clean();
        self.verify("all", false);
        until("the roots", || {
            let vdisk = self.source.vdisk();
            (!vdisk["root"].is_null()).then(|| {
                assert_eq!(vdisk["root"]["source"], vdisk["root"]["destination"]);
                assert_eq!(vdisk["verify"]["differing_chunks"], 0);
                vdisk
            })
        })
    }
}
