//! Transport devices: loaded, damaged, carried, unloaded, while the guest keeps writing.

mod lab;

use lab::images::{Dice, empty_qcow2, run, text};
use lab::qmp::StorageDaemon;
use lab::{Lab, file, nbd, until};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SIZE: u64 = 96 << 20;
const DEVICES: [&str; 2] = [
    "000102030405060708090a0b0c0d0e0f",
    "f00102030405060708090a0b0c0d0e0f",
];
/// Is written by the guest, and must be on no device.
const PLANTED: &str = "the queen's diary, which nobody may read";

struct World {
    lab: Lab,
    daemon: StorageDaemon,
    dice: Dice,
    epoch: u64,
}

fn key(device: &str) -> String {
    device.repeat(2)
}

impl World {
    /// A guest that has written to most of its VDISK; the first bitmap runs.
    fn new(seed: u64) -> World {
        let lab = Lab::new();
        let image = lab.path("vm.qcow2");
        empty_qcow2(&image, SIZE);
        let mut daemon = StorageDaemon::start(lab.folder.path(), &image);
        let mut dice = Dice::new(seed);
        let random = lab.path("random");
        fs::write(&random, dice.bytes(20 << 20)).unwrap();
        let planted = lab.path("planted");
        fs::write(&planted, format!("{PLANTED:<4096}").repeat(64)).unwrap();
        let io = |commands: &[String]| {
            let mut arguments = vec!["-f".to_owned(), "raw".to_owned()];
            for command in commands {
                arguments.extend(["-c".to_owned(), command.clone()]);
            }
            arguments.push(daemon.uri("guest"));
            run(
                "qemu-io",
                &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
            );
        };
        io(&[
            format!("write -s {} 1M 20M", text(&random)),
            // The same content elsewhere: places, not blocks.
            format!("write -s {} 32M 20M", text(&random)),
            format!("write -s {} 60M 256k", text(&planted)),
            "write -P 7 64M 8M".to_owned(),
            "write -P 0 80M 4M".to_owned(),
        ]);
        daemon.add_bitmap(0);
        for device in DEVICES {
            fs::create_dir_all(lab.path(device).join("packs")).unwrap();
        }
        let mut world = World {
            lab,
            daemon,
            dice,
            epoch: 0,
        };
        world.tell();
        world
    }

    fn packs(&self, device: &str) -> PathBuf {
        self.lab.path(device).join("packs")
    }

    /// Tells both engines of the VDISK and of each other.
    fn tell(&mut self) {
        let to = file(&self.lab.path("to.img"));
        self.lab.destination.put_vdisk(SIZE, to);
        self.tell_source();
    }

    fn tell_source(&mut self) {
        self.lab.connect(&self.lab.address, 1);
        let endpoint = nbd(&self.daemon.socket, "vda");
        self.lab.source.put_vdisk(SIZE, endpoint);
    }

    fn put(&self, device: &str, purpose: &str) -> Value {
        let engine = match purpose {
            "unload" => &self.lab.destination,
            _ => &self.lab.source,
        };
        let body = json!({ "path": self.packs(device), "key": key(device), "purpose": purpose });
        engine.ok("PUT", &format!("/v1/devices/{device}"), body)
    }

    fn close(&self, device: &str) {
        let path = format!("/v1/devices/{device}");
        self.lab.source.ok("DELETE", &path, Value::Null);
    }

    fn background(&self) -> Value {
        let vdisk = self.lab.source.vdisk();
        assert_ne!(vdisk["state"], "held", "{vdisk}");
        vdisk["background"].clone()
    }

    fn wait_loaded(&self) -> Value {
        until("everything to be loaded", || {
            let background = self.background();
            (background["state"] == "loaded").then_some(background)
        })
    }

    fn load(&self, devices: &[&str]) {
        for device in devices {
            self.put(device, "load");
        }
        self.lab.start("load");
        self.wait_loaded();
        devices.iter().for_each(|device| self.close(device));
    }

    fn guest_writes(&mut self) {
        let mut arguments = vec!["-f".to_owned(), "raw".to_owned()];
        for _ in 0..12 {
            let length = [512, 4096, 65_536, 1 << 20][self.dice.roll(4) as usize];
            let offset = self.dice.roll((SIZE - length) / 512) * 512;
            let pattern = 1 + self.dice.roll(254);
            let command = match self.dice.roll(8) {
                0 => format!("write -z {offset} {length}"),
                _ => format!("write -P {pattern} {offset} {length}"),
            };
            arguments.extend(["-c".to_owned(), command]);
        }
        arguments.push(self.daemon.uri("guest"));
        run(
            "qemu-io",
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }

    /// What was written since the last epoch goes over the link.
    fn send_epoch(&mut self) {
        let number = self.epoch;
        let export = self.daemon.seal(number);
        let endpoint = nbd(&self.daemon.socket, &export);
        let bitmap = format!("drover-{number}");
        let body = json!({ "epoch": number, "endpoint": endpoint, "bitmap": bitmap });
        self.lab.source.ok("POST", "/v1/vdisks/vda/epochs", body);
        until("the acknowledgement of an epoch", || {
            let epoch = self.lab.source.vdisk()["epoch"].clone();
            assert_ne!(epoch["state"], "failed", "{epoch}");
            (epoch["state"] == "acknowledged").then_some(())
        });
        self.daemon.release(number);
        self.epoch += 1;
    }

    fn travel(&mut self) {
        for _ in 0..3 {
            self.guest_writes();
            self.send_epoch();
        }
    }

    fn device(&self, device: &str) -> Value {
        self.lab.destination.status()["devices"][device].clone()
    }

    fn unload(&self, device: &str) -> Value {
        self.put(device, "unload");
        self.wait_unloaded(device)
    }

    fn wait_unloaded(&self, device: &str) -> Value {
        until("a device to be unloaded", || {
            let status = self.device(device);
            assert_ne!(status["state"], "failed", "{status}");
            (status["state"] == "done").then_some(status)
        })
    }

    fn forget(&self, device: &str) -> u64 {
        let path = format!("/v1/devices/{device}/forget");
        self.lab.source.ok("POST", &path, Value::Null)["chunks"]
            .as_u64()
            .unwrap()
    }

    /// Nothing differs any more, as far as hashes tell and byte by byte.
    fn finish(&mut self) -> Value {
        self.send_epoch();
        self.lab.wait_clean();
        let vdisk = self.lab.verify("remaining", false);
        assert_eq!(vdisk["verify"]["differing_chunks"], 0, "{vdisk}");
        let to = self.lab.path("to.img");
        let from = self.daemon.uri("vda");
        run(
            "qemu-img",
            &["compare", "-f", "raw", "-F", "raw", &from, text(&to)],
        );
        vdisk
    }

    fn files(&self, device: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.packs(device)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn flip(path: &Path, offset: u64) {
    let pack = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    pack.read_exact_at(&mut byte, offset).unwrap();
    pack.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn sent(vdisk: &Value) -> u64 {
    vdisk["sent"]["raw_bytes"].as_u64().unwrap()
}

#[test]
fn two_devices_in_any_order_while_the_guest_writes() {
    let mut world = World::new(51);
    world.guest_writes();
    world.load(&DEVICES);
    assert!(sent(&world.lab.source.vdisk()) < 1 << 20, "it went by road");
    world.travel();
    let second = world.unload(DEVICES[1]);
    world.travel();
    let first = world.unload(DEVICES[0]);
    for status in [&first, &second] {
        assert!(status["unloaded_chunks"].as_u64().unwrap() > 0, "{status}");
        assert_eq!(status["damaged"], 0, "{status}");
    }
    let places = [&first, &second].map(|status| status["places"].as_u64().unwrap());
    assert!(
        places.iter().sum::<u64>() >= 20,
        "{places:?}: what is twice is stored once"
    );
    let sent = world.finish()["sent"].clone();
    assert!(
        sent["raw_bytes"].as_u64() <= sent["foreground_bytes"].as_u64(),
        "{sent}"
    );
    let again = world.unload(DEVICES[0]);
    assert_eq!(again["unloaded_chunks"], 0, "{again}");
    world.finish();
}

#[test]
fn what_two_vms_have_in_common_is_stored_once() {
    let mut first = World::new(60);
    first.load(&DEVICES[..1]);
    let mut second = World::new(60);
    let packs = second.packs(DEVICES[0]);
    fs::remove_dir(&packs).unwrap();
    std::os::unix::fs::symlink(first.packs(DEVICES[0]), &packs).unwrap();
    second.put(DEVICES[0], "load");
    second.lab.start("load");
    second.wait_loaded();
    let status = second.lab.source.status()["devices"][DEVICES[0]].clone();
    assert_eq!(status["blocks"], 0, "{status}");
    assert!(
        status["written_bytes"].as_u64().unwrap() < 1 << 20,
        "{status}"
    );
    second.close(DEVICES[0]);
    for world in [&mut first, &mut second] {
        world.travel();
        let status = world.unload(DEVICES[0]);
        assert_eq!(status["damaged"], 0, "{status}");
        world.finish();
    }
}

#[test]
fn what_is_on_a_device_tells_nothing() {
    let world = World::new(52);
    world.load(&DEVICES[..1]);
    for path in world.files(DEVICES[0]) {
        let raw = fs::read(&path).unwrap();
        for planted in [PLANTED.as_bytes(), b"\"vdisk\":\"vda\"", b"chunk_size"] {
            let found = raw.windows(planted.len()).any(|window| window == planted);
            assert!(!found, "{} holds it", path.display());
        }
    }
}

#[test]
fn damage_is_named_and_what_it_took_comes_over_the_link() {
    let mut world = World::new(53);
    world.load(&DEVICES[..1]);
    world.travel();
    let pack = world.files(DEVICES[0])[0].clone();
    let length = pack.metadata().unwrap().len();
    for _ in 0..1000 {
        // All in the second half, so that something is left.
        flip(&pack, length / 2 + world.dice.roll(length / 2));
    }
    let status = world.unload(DEVICES[0]);
    assert!(status["damaged"].as_u64().unwrap() > 0, "{status}");
    assert!(status["unloaded_chunks"].as_u64().unwrap() > 10, "{status}");
    let left = world.background()["loaded_bytes"].as_u64().unwrap();
    assert!(left > 0 && left < SIZE, "{left}");
    let before = world.lab.source.vdisk();
    assert!(world.forget(DEVICES[0]) > 0);
    world.lab.start("copy");
    let after = world.finish();
    assert!(
        sent(&after) - sent(&before) <= left + (8 << 20),
        "{before} {after}"
    );
}

#[test]
fn truncated_packs_and_a_missing_index_cost_what_is_missing_alone() {
    let mut world = World::new(54);
    world.load(&DEVICES[..1]);
    let pack = world.files(DEVICES[0])[0].clone();
    let length = pack.metadata().unwrap().len();
    // Trailer and index are gone, and some blocks.
    let file = OpenOptions::new().write(true).open(&pack).unwrap();
    file.set_len(length * 3 / 4).unwrap();
    world.travel();
    let status = world.unload(DEVICES[0]);
    assert!(status["unloaded_chunks"].as_u64().unwrap() > 10, "{status}");
    assert!(world.forget(DEVICES[0]) > 0);
    world.lab.start("copy");
    world.finish();
}

#[test]
fn an_older_load_of_the_same_vdisk_is_not_taken() {
    let mut world = World::new(55);
    world.load(&DEVICES[..1]);
    let old = world.lab.path("old");
    run("cp", &["-a", text(&world.packs(DEVICES[0])), text(&old)]);
    assert!(world.forget(DEVICES[0]) > 0);
    world.travel();
    fs::remove_dir_all(world.packs(DEVICES[0])).unwrap();
    fs::create_dir(world.packs(DEVICES[0])).unwrap();
    world.load(&DEVICES[..1]);
    let new = world.lab.path("new");
    fs::rename(world.packs(DEVICES[0]), &new).unwrap();
    fs::rename(&old, world.packs(DEVICES[0])).unwrap();
    let replayed = world.unload(DEVICES[0]);
    assert_eq!(replayed["unloaded_chunks"], 0, "{replayed}");
    assert!(
        replayed["refused_chunks"].as_u64().unwrap() > 0,
        "{replayed}"
    );
    fs::remove_dir_all(world.packs(DEVICES[0])).unwrap();
    fs::rename(&new, world.packs(DEVICES[0])).unwrap();
    let path = format!("/v1/devices/{}", DEVICES[0]);
    world.lab.destination.ok("DELETE", &path, Value::Null);
    world.unload(DEVICES[0]);
    world.finish();
}

#[test]
fn a_lost_device_comes_over_the_link() {
    let mut world = World::new(56);
    world.load(&DEVICES);
    world.travel();
    world.unload(DEVICES[1]);
    assert!(world.forget(DEVICES[0]) > 0);
    assert_eq!(world.forget(DEVICES[0]), 0);
    world.lab.start("copy");
    world.finish();
}

#[test]
fn engines_that_are_killed_while_loading_and_unloading_go_on() {
    let mut world = World::new(57);
    let pace = |world: &World, rate: Option<u64>| {
        let body = json!({ "background": rate, "link": null });
        world.lab.source.ok("PUT", "/v1/pacing", body);
    };
    pace(&world, Some(8 << 20));
    world.put(DEVICES[0], "load");
    world.lab.start("load");
    until("something to be loaded", || {
        let loaded = world.background()["loaded_bytes"].as_u64()?;
        (loaded > 4 << 20).then_some(())
    });
    world.lab.source.kill_and_restart();
    world.guest_writes();
    world.tell_source();
    world.send_epoch();
    until("the notes of the first engine", || {
        let loaded = world.background()["loaded_bytes"].as_u64()?;
        (loaded > 2 << 20).then_some(())
    });
    world.load(&DEVICES[..1]);
    world.travel();
    world.put(DEVICES[0], "unload");
    until("something to be unloaded", || {
        (world.device(DEVICES[0])["unloaded_chunks"].as_u64()? > 5).then_some(())
    });
    world.lab.destination.kill_and_restart();
    world.lab.listen(1);
    let to = file(&world.lab.path("to.img"));
    world.lab.destination.put_vdisk(SIZE, to);
    world.travel();
    world.unload(DEVICES[0]);
    world.finish();
}

#[test]
fn after_a_power_cycle_hashes_are_compared_once_the_device_has_come() {
    let mut world = World::new(58);
    world.load(&DEVICES[..1]);
    world.travel();
    // What was written is in no bitmap any more.
    world.guest_writes();
    world.daemon.lose_bitmap(world.epoch);
    world.epoch += 1;
    world.daemon.add_bitmap(world.epoch);
    world.lab.start("compare");
    world.travel();
    let status = world.unload(DEVICES[0]);
    assert!(status["unloaded_chunks"].as_u64().unwrap() > 10, "{status}");
    let vdisk = world.finish();
    assert!(sent(&vdisk) < SIZE / 2, "{vdisk}");
}

#[test]
fn a_device_is_verified_by_an_engine_that_knows_nothing_else() {
    let world = World::new(59);
    world.load(&DEVICES[..1]);
    let engine = lab::Engine::start(world.lab.folder.path(), "verifier");
    let path = format!("/v1/devices/{}", DEVICES[0]);
    let verify = |key: String| {
        let body = json!({ "path": world.packs(DEVICES[0]), "key": key, "purpose": "verify" });
        engine.ok("PUT", &path, body);
        until("the end of the verification", || {
            let status = engine.status()["devices"][DEVICES[0]].clone();
            (status["state"] == "done").then_some(status)
        })
    };
    let status = verify(key(DEVICES[0]));
    assert_eq!(status["damaged"], 0, "{status}");
    assert_eq!(status["loads"][0]["vdisk"], "vda", "{status}");
    assert_eq!(status["read_bytes"], status["total_bytes"], "{status}");
    let pack = world.files(DEVICES[0])[0].clone();
    flip(&pack, pack.metadata().unwrap().len() / 2);
    assert!(verify(key(DEVICES[0]))["damaged"].as_u64().unwrap() > 0);
    let wrong = verify(key(DEVICES[1]));
    assert_eq!(wrong["blocks"], 0, "{wrong}");
    assert!(wrong["damaged"].as_u64().unwrap() > 0, "{wrong}");
    let (status, code) = engine.refused("DELETE", "/v1/devices/x", Value::Null);
    assert_eq!((status, code.as_str()), (400, "invalid_request"));
    engine.ok("DELETE", &path, Value::Null);
}
