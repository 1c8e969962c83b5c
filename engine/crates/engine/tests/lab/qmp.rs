//! A `qemu-storage-daemon` as the hypervisor: one qcow2 node, a guest's export, bitmaps over QMP.

use super::until;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

pub struct StorageDaemon {
    /// Exports: `guest` (writable) and `vda`.
    pub socket: PathBuf,
    child: Child,
    qmp: BufReader<UnixStream>,
}

impl StorageDaemon {
    /// A daemon whose guest writes a qcow2 image.
    pub fn start(folder: &Path, image: &Path) -> StorageDaemon {
        let node = format!(
            "driver=qcow2,node-name=vda,file.driver=file,file.filename={}",
            image.display()
        );
        Self::with_node(folder, &node)
    }

    /// A daemon whose guest writes the block node `vda`, described as on a command line.
    pub fn with_node(folder: &Path, node: &str) -> StorageDaemon {
        let (socket, monitor) = (folder.join("vm-nbd.sock"), folder.join("vm-qmp.sock"));
        for path in [&socket, &monitor] {
            let _ = std::fs::remove_file(path);
        }
        let chardev = format!("socket,id=c,path={},server=on,wait=off", monitor.display());
        let server = format!(
            "addr.type=unix,addr.path={},max-connections=0",
            socket.display()
        );
        let child = Command::new("qemu-storage-daemon")
            .args([
                "--blockdev",
                node,
                "--chardev",
                &chardev,
                "--monitor",
                "chardev=c",
            ])
            .args(["--nbd-server", &server])
            .args([
                "--export",
                "type=nbd,id=guest,node-name=vda,name=guest,writable=on",
            ])
            .args(["--export", "type=nbd,id=vda,node-name=vda,name=vda"])
            .spawn()
            .unwrap_or_else(|error| panic!("qemu-storage-daemon is needed by this test: {error}"));
        let stream = until("the monitor", || UnixStream::connect(&monitor).ok());
        until("the NBD server", || UnixStream::connect(&socket).ok());
        let mut daemon = StorageDaemon {
            socket,
            child,
            qmp: BufReader::new(stream),
        };
        daemon.receive();
        daemon.execute("qmp_capabilities", json!({}));
        daemon
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.qmp.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({ "execute": command, "arguments": arguments });
        self.qmp
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .unwrap();
        loop {
            let answer = self.receive();
            assert!(answer.get("error").is_none(), "{command}: {answer}");
            if let Some(value) = answer.get("return") {
                return value.clone();
            }
        }
    }

    pub fn add_bitmap(&mut self, number: u64) {
        let name = format!("drover-{number}");
        self.execute(
            "block-dirty-bitmap-add",
            json!({ "node": "vda", "name": name }),
        );
    }

    /// Seals epoch `number` in one transaction and exports it as `epoch-<number>`.
    pub fn seal(&mut self, number: u64) -> String {
        let (sealed, next) = (format!("drover-{number}"), format!("drover-{}", number + 1));
        let actions = json!([
            { "type": "block-dirty-bitmap-add", "data": { "node": "vda", "name": next } },
            { "type": "block-dirty-bitmap-disable", "data": { "node": "vda", "name": sealed } },
        ]);
        self.execute("transaction", json!({ "actions": actions }));
        self.export(number)
    }

    fn export(&mut self, number: u64) -> String {
        let name = format!("epoch-{number}");
        let bitmaps = [format!("drover-{number}")];
        let export = json!({ "type": "nbd", "id": name, "node-name": "vda", "name": name, "bitmaps": bitmaps });
        self.execute("block-export-add", export);
        name
    }

    /// The epoch is stored: its bitmap goes.
    pub fn release(&mut self, number: u64) {
        self.unexport(number);
        let name = format!("drover-{number}");
        self.execute(
            "block-dirty-bitmap-remove",
            json!({ "node": "vda", "name": name }),
        );
    }

    /// The epoch is not stored: its bitmap is merged into the running one.
    /// As when the hypervisor's process ends.
    pub fn lose_bitmap(&mut self, number: u64) {
        let name = format!("drover-{number}");
        self.execute(
            "block-dirty-bitmap-remove",
            json!({ "node": "vda", "name": name }),
        );
    }

    pub fn merge_back(&mut self, number: u64) {
        self.unexport(number);
        let (old, running) = (format!("drover-{number}"), format!("drover-{}", number + 1));
        let merge = json!({ "node": "vda", "target": running, "bitmaps": [old] });
        self.execute("block-dirty-bitmap-merge", merge);
        self.execute(
            "block-dirty-bitmap-remove",
            json!({ "node": "vda", "name": old }),
        );
    }

    fn unexport(&mut self, number: u64) {
        let id = format!("epoch-{number}");
        self.execute("block-export-del", json!({ "id": id, "mode": "hard" }));
        until("the end of the export", || {
            let exports = self.execute("query-block-exports", json!({}));
            exports
                .as_array()
                .unwrap()
                .iter()
                .all(|export| export["id"] != id)
                .then_some(())
        });
    }

    /// The guest's disk for other programs.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket.display())
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for StorageDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
