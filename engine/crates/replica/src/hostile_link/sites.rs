//! A source and a destination, each in a runtime of its own, so that it can be killed.

use super::proxy::Proxy;
use crate::compression::Choice;
use crate::destination::{Destination, DestinationLink};
use crate::endpoint::EndpointSpec;
use crate::source::{Mode, OnReadError, Source, SourceLink, SourceLinkStatus, SourceVdisk};
use device::{DeviceId, DeviceKey};
use drover_link::tls::Identity;
use rand::Rng;
use rand::rngs::StdRng;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const DISKS: usize = 2;
/// Not a whole number of chunks or blocks.
const SIZES: [u64; DISKS] = [(5 << 19) + 70_000, 2 << 19];
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Sites {
    folder: TempDir,
    identities: [Identity; 2],
    source: Option<(Runtime, Source)>,
    destination: Option<(Runtime, Destination)>,
    proxy_address: String,
    listen: String,
    connections: u16,
    files: Vec<File>,
    modes: [Option<Mode>; DISKS],
    /// What the guest wrote since the disk was last seen clean: what its bitmaps would hold.
    dirty: [Vec<(u64, u64)>; DISKS],
    pub times_clean: u32,
    /// What was done, for a failure's report.
    done: RefCell<Vec<String>>,
}

fn identities() -> [Identity; 2] {
    let mut parameters = CertificateParams::new(vec![]).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    ["source.drover", "destination.drover"].map(|name| {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &authority).unwrap();
        Identity::from_pem(&certificate.pem(), &key.serialize_pem(), &authority.pem()).unwrap()
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn id(device: usize) -> DeviceId {
    DeviceId([device as u8; 16])
}

fn key(device: usize) -> DeviceKey {
    DeviceKey::new([device as u8; 32])
}

pub fn name(disk: usize) -> String {
    format!("vd{disk}")
}

impl Sites {
    /// Both run and are joined through the proxy; nothing is copied yet.
    pub fn new(proxy: &Proxy, seed: u64) -> Sites {
        let folder = tempfile::tempdir().unwrap();
        let mut dice = <StdRng as rand::SeedableRng>::seed_from_u64(seed + 1);
        let files = (0..DISKS).map(|disk| {
            let file = File::create(folder.path().join(format!("from-{disk}"))).unwrap();
            let mut bytes = vec![0; SIZES[disk] as usize];
            dice.fill(&mut bytes[1 << 19..]);
            file.write_all_at(&bytes, 0).unwrap();
            file
        });
        let files = files.collect();
        let mut sites = Sites {
            folder,
            identities: identities(),
            source: None,
            destination: None,
            proxy_address: proxy.address.clone(),
            listen: "127.0.0.1:0".into(),
            connections: 3,
            files,
            modes: [None; DISKS],
            dirty: Default::default(),
            times_clean: 0,
            done: RefCell::default(),
        };
        sites.start_destination();
        proxy.lead_to(sites.listen.clone());
        sites.start_source();
        sites
    }

    fn note(&self, what: impl Into<String>) {
        self.done.borrow_mut().push(what.into());
    }

    fn path(&self, end: &str, disk: usize) -> PathBuf {
        self.folder.path().join(format!("{end}-{disk}"))
    }

    fn start_destination(&mut self) {
        let runtime = runtime();
        let destination = Destination::new(self.folder.path()).unwrap();
        let link = DestinationLink {
            listen: self.listen.clone(),
            identity: self.identities[1].clone(),
            token: 1,
        };
        let specs: Vec<_> = (0..DISKS)
            .map(|disk| (name(disk), SIZES[disk], self.path("to", disk)))
            .collect();
        let address = runtime.block_on(async {
            for (name, size, path) in specs {
                let spec = EndpointSpec::File { path, create: true };
                destination.put_vdisk(&name, size, spec).await.unwrap();
            }
            destination.put_link(link).await.unwrap()
        });
        self.listen = address.to_string();
        self.destination = Some((runtime, destination));
    }

    fn start_source(&mut self) {
        let runtime = runtime();
        let source = runtime.block_on(async { Source::new(self.folder.path()) });
        for (disk, size) in SIZES.into_iter().enumerate() {
            let path = self.path("from", disk);
            let spec = EndpointSpec::File {
                path,
                create: false,
            };
            let name = name(disk);
            let opened = source.put_vdisk(&name, size, spec, OnReadError::Stop);
            runtime.block_on(opened).unwrap();
        }
        source.put_link(self.link());
        self.source = Some((runtime, source));
    }

    fn link(&self) -> SourceLink {
        SourceLink {
            connect: self.proxy_address.clone(),
            server_name: "destination.drover".into(),
            connections: self.connections,
            identity: self.identities[0].clone(),
            token: 1,
            compression: Choice::Lz4,
        }
    }

    pub fn source(&self) -> &Source {
        &self.source.as_ref().unwrap().1
    }

    pub fn vdisk(&self, disk: usize) -> Arc<SourceVdisk> {
        self.source().vdisk(&name(disk)).unwrap()
    }

    pub fn link_status(&self) -> SourceLinkStatus {
        self.source().link_status()
    }

    /// As kill -9, except that system calls which are under way come to their end.
    pub fn restart_source(&mut self) {
        self.note("source restarts");
        let (runtime, _) = self.source.take().unwrap();
        runtime.shutdown_timeout(PATIENCE);
        self.start_source();
        for disk in 0..DISKS {
            // The bitmaps of the epochs that were not acknowledged are merged back.
            for (offset, length) in &self.dirty[disk] {
                self.vdisk(disk).mark_dirty(*offset, *length);
            }
            if let Some(mode) = self.modes[disk] {
                self.start(disk, mode);
            }
        }
    }

    pub fn restart_destination(&mut self, gracefully: bool) {
        self.note(format!("destination restarts {gracefully}"));
        let (runtime, destination) = self.destination.take().unwrap();
        if gracefully {
            runtime.block_on(destination.stop());
        }
        drop(destination);
        runtime.shutdown_timeout(PATIENCE);
        self.start_destination();
    }

    /// A comparison that is not finished is not given up for another mode, also not by Drover.
    pub fn start(&mut self, disk: usize, mode: Mode) {
        let background = self.vdisk(disk).status().background;
        let comparing = self.modes[disk] == Some(Mode::Compare) && background.state != "done";
        if comparing && mode != Mode::Compare {
            return;
        }
        self.note(format!("start {disk} {mode:?}"));
        self.modes[disk] = Some(mode);
        self.source().start_background(&self.vdisk(disk), mode);
    }

    fn packs(&self, device: usize) -> PathBuf {
        self.folder.path().join(format!("device-{device}"))
    }

    /// A device is plugged in at the source.
    pub fn load(&self, device: usize) {
        self.note(format!("load {device}"));
        let packs = self.packs(device);
        std::fs::create_dir_all(&packs).unwrap();
        let opened = self.source().open_device(id(device), &packs, key(device));
        opened.unwrap();
    }

    /// … and taken away.
    pub fn close(&self, device: usize) {
        self.note(format!("close {device}"));
        self.source().close_device(id(device));
    }

    pub fn forget(&self, device: usize) {
        self.note(format!("forget {device}"));
        self.source().forget_device(id(device)).unwrap();
    }

    /// A device, or a copy of it, is plugged in at the destination; whatever was read of one before
    /// comes to its end somewhere.
    pub fn unload(&self, device: usize) {
        self.note(format!("unload {device}"));
        let (runtime, destination) = self.destination.as_ref().unwrap();
        let packs = self.packs(device);
        if packs.is_dir() {
            let _inside = runtime.enter();
            destination.close_device(id(device));
            let unloading = destination.unload_device(id(device), &packs, key(device));
            unloading.unwrap();
        }
    }

    /// A byte of a device changes.
    pub fn damage(&self, device: usize, dice: &mut StdRng) {
        self.note(format!("damage {device}"));
        let Ok(entries) = std::fs::read_dir(self.packs(device)) else {
            return;
        };
        for entry in entries.map(Result::unwrap) {
            let length = entry.metadata().unwrap().len();
            if dice.random_bool(0.3) && length > 0 {
                let pack = File::options()
                    .read(true)
                    .write(true)
                    .open(entry.path())
                    .unwrap();
                let (at, mut byte) = (dice.random_range(0..length), [0]);
                pack.read_exact_at(&mut byte, at).unwrap();
                pack.write_all_at(&[byte[0] ^ 1], at).unwrap();
            }
        }
    }

    pub fn verify(&self, disk: usize, all: bool) {
        self.note(format!("verify {disk} {all}"));
        self.vdisk(disk).start_verify(all, true);
    }

    pub fn set_connections(&mut self, connections: u16) {
        self.connections = connections;
        assert!(self.source().set_connections(connections));
    }

    /// A write, mostly to a few places again and again, and its epoch.
    pub fn guest_writes(&mut self, disk: usize, dice: &mut StdRng) {
        let size = SIZES[disk];
        let offset = match dice.random_bool(0.7) {
            true => dice.random_range(0..4) * 300_000,
            false => dice.random_range(0..size),
        };
        let length = dice.random_range(1..200_000).min(size - offset);
        let mut bytes = vec![0; length as usize];
        if dice.random_bool(0.8) {
            dice.fill(&mut bytes[..]);
        }
        self.note(format!("write {disk} {offset}+{length}"));
        self.files[disk].write_all_at(&bytes, offset).unwrap();
        self.dirty[disk].push((offset, length));
        self.vdisk(disk).mark_dirty(offset, length);
    }

    /// Bitmaps of what is stable are released. Whenever a disk is clean at the source it is equal at
    /// the destination.
    pub fn check_if_clean(&mut self) {
        for disk in 0..DISKS {
            if !self.dirty[disk].is_empty() && self.vdisk(disk).epoch_is_stable() {
                self.note(format!("release {disk}"));
                self.dirty[disk].clear();
            }
            if self.vdisk(disk).status().state == "clean" {
                self.check(disk);
            }
        }
    }

    fn check(&mut self, disk: usize) {
        self.times_clean += 1;
        self.dirty[disk].clear();
        let read = |end| std::fs::read(self.path(end, disk)).unwrap();
        let (from, to) = (read("from"), read("to"));
        let differing = from.iter().zip(&to).position(|(a, b)| a != b);
        if let Some(at) = differing {
            let done = self.done.borrow().join("\n");
            panic!("clean, but disk {disk} differs at {at}, after\n{done}");
        }
        assert_eq!(from.len(), to.len());
    }

    fn all_clean(&self) -> bool {
        (0..DISKS).all(|disk| {
            let status = self.vdisk(disk).status();
            status.state == "clean" && status.background.state == "done"
        })
    }

    /// Whether all were clean at some moment; a verification may have begun since.
    pub fn wait_clean(&mut self, patience: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < patience {
            if self.all_clean() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// The link is good from now on.
    pub fn finish(&mut self) {
        for disk in 0..DISKS {
            self.start(disk, self.modes[disk].unwrap_or(Mode::Copy));
        }
        if self.link_status().state != "up" {
            // Not to wait for the end of a long pause.
            self.source().put_link(self.link());
        }
        let clean = self.wait_clean(PATIENCE);
        let statuses: Vec<_> = (0..DISKS).map(|disk| self.vdisk(disk).status()).collect();
        assert!(clean, "{statuses:#?} {:#?}", self.link_status());
        (0..DISKS).for_each(|disk| self.check(disk));
        if let Some((runtime, _)) = self.source.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
        if let Some((runtime, _)) = self.destination.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}
