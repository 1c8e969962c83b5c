//! Starts real servers in a temporary folder; they end with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nbd::{Address, BASE_ALLOCATION, Client, Export, Extent};
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;
const START_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Server {
    process: Child,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts `program` with `arguments`, in which `SOCKET` stands for the path to listen on.
    pub fn start(folder: TempDir, program: &str, arguments: &[&str]) -> Server {
        let socket = socket_in(&folder);
        let arguments = arguments
            .iter()
            .map(|a| a.replace("SOCKET", &socket.to_string_lossy()));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let process = command
            .spawn()
            .unwrap_or_else(|error| panic!("starting {program}: {error}"));
        let begin = Instant::now();
        while !socket.exists() {
            assert!(begin.elapsed() < START_TIMEOUT, "{program} does not listen");
            sleep(Duration::from_millis(10));
        }
        Server { process, folder }
    }

    pub fn export(&self, name: &str, contexts: &[&str]) -> Export {
        Export {
            address: Address::Unix(socket_in(&self.folder)),
            name: name.to_owned(),
            meta_contexts: contexts.iter().map(|&context| context.to_owned()).collect(),
        }
    }

    /// The default export with `base:allocation`.
    pub async fn client(&self) -> Client {
        Client::connect(&self.export("", &[BASE_ALLOCATION]))
            .await
            .unwrap()
    }
}

fn socket_in(folder: &TempDir) -> PathBuf {
    folder.path().join("nbd.sock")
}

pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs a program that prepares something.
pub fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

/// nbdkit without a fork, on the socket.
pub fn nbdkit(arguments: &[&str]) -> Server {
    let arguments = [&["-f", "-U", "SOCKET"], arguments].concat();
    Server::start(folder(), "nbdkit", &arguments)
}

/// All extents of a context, neighbours of equal flags joined.
pub async fn all_extents(client: &Client, context: &str) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut at = 0;
    while at < client.info().size {
        let length = (client.info().size - at).min(1 << 30) as u32;
        for extent in client.block_status(context, at, length).await.unwrap() {
            at += extent.length;
            match extents.last_mut() {
                Some(last) if last.flags == extent.flags => last.length += extent.length,
                _ => extents.push(extent),
            }
        }
    }
    extents
}

/// Bytes that differ from place to place.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| {
            (at as u64)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .to_be_bytes()[1]
        })
        .collect()
}
