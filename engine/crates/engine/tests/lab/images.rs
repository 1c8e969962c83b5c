//! Disk images for tests: some data, some text, some holes; always the same for the same seed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// A small generator of pseudo-random numbers (xorshift), so that failures can be repeated.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.roll(u64::MAX).to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

const PATCH: u64 = 256 << 10;

/// Writes a mixed image: a third holes, a third random, a third compressible.
pub fn mixed(path: &Path, size: u64, seed: u64) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    let mut dice = Dice::new(seed);
    let mut offset = 0;
    while offset < size {
        let patches = 1 + dice.roll(8);
        let length = (patches * PATCH).min(size - offset);
        let content = match dice.roll(3) {
            0 => None,
            1 => Some(dice.bytes(length as usize)),
            _ => Some(dice.bytes(100).repeat(length as usize / 100 + 1)),
        };
        if let Some(content) = content {
            file.write_all_at(&content[..length as usize], offset)
                .unwrap();
        }
        offset += length;
    }
}

/// Runs a program to its end and demands success.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A qcow2 with the content of a raw image.
pub fn to_qcow2(raw: &Path, qcow2: &Path) {
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            text(raw),
            text(qcow2),
        ],
    );
}

pub fn empty_qcow2(path: &Path, size: u64) {
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", text(path), &size.to_string()],
    );
}

/// Demands that two images hold the same; formats as `qemu-img` names them.
pub fn assert_same(a: (&str, &str), b: (&str, &str)) {
    run("qemu-img", &["compare", "-f", a.0, "-F", b.0, a.1, b.1]);
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
