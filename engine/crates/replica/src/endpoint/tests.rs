//! One conformance suite that every kind of endpoint passes.

use super::*;
use crate::trouble::TroubleCode;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::Duration;
use tempfile::TempDir;

const SIZE: u64 = (8 << 20) + 1536;

/// An endpoint of one kind, made for a test.
struct Subject {
    _folder: TempDir,
    server: Option<Child>,
    spec: EndpointSpec,
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn sparse_file() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let spec = EndpointSpec::File {
        path: folder.path().join("disk.img"),
        create: true,
    };
    Subject {
        _folder: folder,
        server: None,
        spec,
    }
}

fn served(program: &str, arguments: &[&str], folder: TempDir) -> Subject {
    let socket = folder.path().join("nbd.sock");
    let mut command = Command::new(program);
    for argument in arguments {
        command.arg(argument.replace("SOCKET", socket.to_str().unwrap()));
    }
    let server = command.spawn();
    let server = server.unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
    for _ in 0..500 {
        if UnixStream::connect(&socket).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let spec = EndpointSpec::Nbd {
        socket,
        export: String::new(),
    };
    Subject {
        _folder: folder,
        server: Some(server),
        spec,
    }
}

fn qemu_nbd() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.qcow2");
    let made = Command::new("qemu-img")
        .args([
            "create",
            "-q",
            "-f",
            "qcow2",
            image.to_str().unwrap(),
            &SIZE.to_string(),
        ])
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "qemu-img is needed by this test"
    );
    served(
        "qemu-nbd",
        &[
            "-t",
            "-e",
            "8",
            "-f",
            "qcow2",
            "-k",
            "SOCKET",
            image.to_str().unwrap(),
        ],
        folder,
    )
}

fn nbdkit_without_extras() -> Subject {
    let size = SIZE.to_string();
    let arguments = ["-f", "-U", "SOCKET", "--filter=nozero", "memory", &size];
    served("nbdkit", &arguments, tempfile::tempdir().unwrap())
}

async fn open(subject: &Subject, access: Access) -> Endpoint {
    Endpoint::open(&subject.spec, SIZE, access).await.unwrap()
}

async fn reads_back_what_was_written(subject: &Subject) {
    let endpoint = open(subject, Access::Write).await;
    let data: Bytes = (0..1u32 << 20)
        .map(|byte| (byte % 251) as u8)
        .collect::<Vec<_>>()
        .into();
    endpoint.write(512 * 3, data.clone()).await.unwrap();
    endpoint
        .write(SIZE - 1024, Bytes::from(vec![9; 1024]))
        .await
        .unwrap();
    endpoint.flush().await.unwrap();
    assert_eq!(
        endpoint.read(512 * 3, data.len() as u32).await.unwrap(),
        data
    );
    assert_eq!(
        endpoint.read(SIZE - 1024, 1024).await.unwrap(),
        vec![9; 1024]
    );
    drop(endpoint);
    let again = open(subject, Access::Read).await;
    assert_eq!(again.read(512 * 3, data.len() as u32).await.unwrap(), data);
}

async fn zeros_are_zero_and_nothing_else_is(subject: &Subject) {
    let endpoint = open(subject, Access::Write).await;
    endpoint
        .write(0, Bytes::from(vec![7; 4 << 20]))
        .await
        .unwrap();
    endpoint.zero(1 << 20, 2 << 20).await.unwrap();
    endpoint.zero(SIZE - 512, 512).await.unwrap();
    endpoint.flush().await.unwrap();
    let whole = endpoint.read(0, 4 << 20).await.unwrap();
    let is =
        |range: std::ops::Range<usize>, byte: u8| whole[range].iter().all(|found| *found == byte);
    assert!(is(0..1 << 20, 7) && is(1 << 20..3 << 20, 0) && is(3 << 20..4 << 20, 7));
}

async fn spans_cover_the_range_and_never_call_data_zero(subject: &Subject) {
    let endpoint = open(subject, Access::Write).await;
    endpoint.zero(0, SIZE).await.unwrap();
    endpoint
        .write(2 << 20, Bytes::from(vec![5; 1 << 20]))
        .await
        .unwrap();
    endpoint.flush().await.unwrap();
    for (offset, length) in [
        (0, SIZE),
        (1 << 20, 3 << 20),
        ((2 << 20) + 512, 512),
        (SIZE - 512, 512),
    ] {
        let spans = endpoint.spans(offset, length).await.unwrap();
        assert_eq!(spans.iter().map(|span| span.length).sum::<u64>(), length);
        let mut position = offset;
        for span in spans {
            assert!(span.length > 0);
            let read = endpoint.read(position, span.length as u32).await.unwrap();
            assert!(
                !span.zero || read.iter().all(|byte| *byte == 0),
                "{position} {span:?}"
            );
            position += span.length;
        }
    }
}

async fn a_wrong_size_is_refused(subject: &Subject) {
    drop(open(subject, Access::Write).await);
    let refused = Endpoint::open(&subject.spec, SIZE + 512, Access::Write)
        .await
        .unwrap_err();
    assert_eq!(refused.code, TroubleCode::SizeMismatch, "{refused}");
}

macro_rules! conforms {
    ($name:ident, $make:path) => {
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn reads_back_what_was_written() {
                super::reads_back_what_was_written(&$make()).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn zeros_are_zero_and_nothing_else_is() {
                super::zeros_are_zero_and_nothing_else_is(&$make()).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn spans_cover_the_range_and_never_call_data_zero() {
                super::spans_cover_the_range_and_never_call_data_zero(&$make()).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_wrong_size_is_refused() {
                super::a_wrong_size_is_refused(&$make()).await;
            }
        }
    };
}

conforms!(file, super::sparse_file);
conforms!(nbd_of_qemu, super::qemu_nbd);
conforms!(nbd_without_zeroes, super::nbdkit_without_extras);

/// Loop devices need root; where there are none (a container), there is nothing to conform.
mod block {
    use super::*;

    fn loop_device() -> Option<(TempDir, String)> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.img");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(SIZE)
            .unwrap();
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&image)
            .output()
            .ok()?;
        let device = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        output.status.success().then_some((folder, device))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn conforms() {
        let Some((folder, device)) = loop_device() else {
            eprintln!("no loop device here: block endpoints are not tested");
            return;
        };
        let spec = EndpointSpec::Block {
            path: device.clone().into(),
        };
        let subject = Subject {
            _folder: folder,
            server: None,
            spec,
        };
        reads_back_what_was_written(&subject).await;
        zeros_are_zero_and_nothing_else_is(&subject).await;
        spans_cover_the_range_and_never_call_data_zero(&subject).await;
        a_wrong_size_is_refused(&subject).await;
        let _ = Command::new("losetup").args(["--detach", &device]).status();
    }
}

#[tokio::test]
async fn a_missing_endpoint_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing");
    for spec in [
        EndpointSpec::File {
            path: path.clone(),
            create: false,
        },
        EndpointSpec::Block { path: path.clone() },
        EndpointSpec::Nbd {
            socket: path.clone(),
            export: String::new(),
        },
    ] {
        let trouble = Endpoint::open(&spec, SIZE, Access::Read).await.unwrap_err();
        assert_eq!(trouble.code, TroubleCode::EndpointGone, "{trouble}");
    }
}

#[tokio::test]
async fn a_source_never_makes_a_file() {
    let subject = sparse_file();
    let trouble = Endpoint::open(&subject.spec, SIZE, Access::Read)
        .await
        .unwrap_err();
    assert_eq!(trouble.code, TroubleCode::EndpointGone);
}
