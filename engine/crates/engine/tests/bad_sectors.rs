//! Sectors of the source that cannot be read: tried again, narrowed down, named, and then as the
//! administrator chose.

mod lab;

use lab::images::{assert_same, mixed, run, text};
use lab::nbd_servers::NbdServer;
use lab::qmp::StorageDaemon;
use lab::{Lab, file, nbd, until};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SIZE: u64 = 16 << 20;

/// Rules of `blkdebug` that make these sectors (of 512 bytes) unreadable.
fn bad_sectors(sectors: &[u64]) -> String {
    let rule = |(index, sector): (usize, &u64)| {
        format!(
            "file.inject-error.{index}.event=read_aio,file.inject-error.{index}.iotype=read,\
             file.inject-error.{index}.errno=5,file.inject-error.{index}.sector={sector}"
        )
    };
    let rules: Vec<_> = sectors.iter().enumerate().map(rule).collect();
    rules.join(",")
}

fn wish(lab: &Lab, endpoint: &Value, on_read_error: &str) {
    let body = json!({ "size": SIZE, "endpoint": endpoint, "on_read_error": on_read_error });
    lab.source.ok("PUT", "/v1/vdisks/vda", body);
}

/// Random data everywhere, so that no place is zero by chance.
fn full(path: &Path, seed: u64) {
    let bytes = lab::images::Dice::new(seed).bytes(SIZE as usize);
    std::fs::write(path, bytes).unwrap();
}

/// The image as it arrives if these sectors cannot be read.
fn with_zeros(from: &Path, to: &Path, sectors: &[u64]) {
    std::fs::copy(from, to).unwrap();
    let image = OpenOptions::new().write(true).open(to).unwrap();
    for sector in sectors {
        image.write_all_at(&[0; 512], sector * 512).unwrap();
    }
}

#[test]
fn a_bad_sector_is_named_and_with_leave_zeroed_listed_and_verified() {
    let lab = Lab::new();
    let (from, to, expected) = (lab.path("from.img"), lab.path("to.img"), lab.path("zeroed"));
    full(&from, 31);
    // One alone, two side by side over a page's edge, the first and the last of the VDISK.
    let bad = [0, 4001, 8191, 8192, SIZE / 512 - 1];
    with_zeros(&from, &expected, &bad);
    let server = NbdServer::blkdebug(&from, &bad_sectors(&bad), &lab.path("nbd.sock"));
    let endpoint = nbd(&server.socket, "");
    lab.pair(SIZE, endpoint.clone(), file(&to));
    lab.start("copy");
    let error = lab.source.wait_held();
    assert_eq!(error["code"], "read_error", "{error}");
    assert!(
        bad.contains(&(error["offset"].as_u64().unwrap() / 512)),
        "{error}"
    );
    assert!(
        [512, 1024].contains(&error["length"].as_u64().unwrap()),
        "{error}"
    );

    wish(&lab, &endpoint, "zero");
    lab.source.ok("POST", "/v1/vdisks/vda/retry", json!({}));
    let vdisk = lab.copy_and_verify();
    assert_eq!(
        vdisk["unreadable"],
        json!({ "bytes": 5 * 512, "places": 4, "first": [
            { "offset": 0, "length": 512 },
            { "offset": 4001 * 512, "length": 512 },
            { "offset": 8191 * 512, "length": 1024 },
            { "offset": SIZE - 512, "length": 512 },
        ]})
    );
    assert_same(("raw", text(&expected)), ("raw", text(&to)));

    // Readable again: the comparison finds it, the data is sent, the list is empty.
    let healthy = NbdServer::qemu(&from, "raw", &lab.path("healthy.sock"));
    wish(&lab, &nbd(&healthy.socket, ""), "zero");
    let vdisk = lab.verify("all", true);
    assert!(
        vdisk["verify"]["differing_chunks"].as_u64().unwrap() > 0,
        "{vdisk}"
    );
    lab.wait_clean();
    let vdisk = lab.verify("remaining", false);
    assert_eq!(vdisk["unreadable"]["places"], 0, "{vdisk}");
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn a_sector_that_the_guest_rewrites_arrives_with_the_next_epoch() {
    let lab = Lab::new();
    let (image, to) = (lab.path("vm.img"), lab.path("to.img"));
    full(&image, 32);
    let bad = 5000;
    // The first write to the disk cures it, as a disk replaces a bad sector when it is written (a
    // rule ends when another takes its place).
    let node = format!(
        "driver=raw,node-name=vda,file.driver=blkdebug,{},file.inject-error.0.state=1,\
         file.set-state.0.event=write_aio,file.set-state.0.state=1,file.set-state.0.new_state=2,\
         file.inject-error.1.event=read_aio,file.inject-error.1.iotype=discard,file.inject-error.1.state=2,\
         file.image.driver=file,file.image.filename={}",
        bad_sectors(&[bad]),
        image.display()
    );
    let mut vm = StorageDaemon::with_node(lab.folder.path(), &node);
    vm.add_bitmap(1);
    let endpoint = nbd(&vm.socket, "vda");
    lab.pair(SIZE, endpoint.clone(), file(&to));
    wish(&lab, &endpoint, "zero");
    lab.start("copy");
    let vdisk = lab.wait_clean();
    assert_eq!(
        vdisk["unreadable"]["first"][0]["offset"],
        bad * 512,
        "{vdisk}"
    );

    let write = format!("write -P 7 {} 512", bad * 512);
    run("qemu-io", &["-f", "raw", "-c", &write, &vm.uri("guest")]);
    let export = vm.seal(1);
    let epoch = json!({ "epoch": 1, "endpoint": nbd(&vm.socket, &export), "bitmap": "drover-1" });
    lab.source.ok("POST", "/v1/vdisks/vda/epochs", epoch);
    until("the epoch", || {
        (lab.source.vdisk()["epoch"]["state"] == "acknowledged").then_some(())
    });
    assert_eq!(lab.source.vdisk()["unreadable"]["places"], 0);
    let vdisk = lab.verify("all", false);
    assert_eq!(vdisk["verify"]["differing_chunks"], 0, "{vdisk}");
    let arrived = std::fs::read(&to).unwrap();
    assert_eq!(arrived[bad as usize * 512..][..512], [7; 512]);
    assert!(
        arrived == std::fs::read(&image).unwrap(),
        "source and destination differ"
    );
}

#[test]
fn reads_that_fail_now_and_then_are_tried_again() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 33);
    let flaky = [
        "--filter=error",
        "file",
        text(&from),
        "error-pread=EIO",
        "error-pread-rate=20%",
    ];
    let server = NbdServer::nbdkit(&flaky, &lab.path("nbd.sock"));
    lab.pair(SIZE, nbd(&server.socket, ""), file(&to));
    let vdisk = lab.copy_and_verify();
    assert_eq!(vdisk["unreadable"]["places"], 0);
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn the_wish_is_for_a_source() {
    let lab = Lab::new();
    let body = |wish| json!({ "size": SIZE, "endpoint": file(&lab.path("to.img")), "on_read_error": wish });
    let refused = |body| lab.destination.refused("PUT", "/v1/vdisks/vda", body);
    assert_eq!(refused(body("zero")), (400, "invalid_request".into()));
    assert_eq!(refused(body("guess")), (400, "invalid_request".into()));
}
