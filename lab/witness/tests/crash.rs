//! The program against a plain file in place of a disk: killed, rolled back, damaged.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

const START: usize = 1 << 20;
const AREA: usize = 2 << 20;
const FILES: usize = 1 << 20;
const OUTSIDE: u8 = 0xAA;

/// A disk with something before and after the area, and a folder.
struct Guest {
    folder: TempDir,
    pattern: &'static str,
}

impl Guest {
    fn new(pattern: &'static str) -> Guest {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut disk = vec![OUTSIDE; START + AREA + START];
        disk[START..START + AREA].fill(0);
        fs::write(folder.path().join("disk"), disk).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Guest { folder, pattern }
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover-witness"));
        command.args(more).args(["--pattern", self.pattern]);
        if !more.contains(&"--rate") {
            command.args(["--rate", "5000"]);
        }
        command
            .arg("--device")
            .arg(self.disk())
            .arg("--directory")
            .arg(self.data());
        command.args([
            "--area-bytes",
            &AREA.to_string(),
            "--file-bytes",
            &FILES.to_string(),
        ]);
        command
    }

    fn start(&self, more: &[&str]) -> Running {
        let mut child = self.command(more).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    /// Exit code and output of a check that demands `announced`.
    fn check(&self, announced: u64) -> (i32, String) {
        let announced = announced.to_string();
        let output = self
            .command(&["check", "--announced", &announced])
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        )
    }

    /// Runs until `records` are announced, then stops cleanly. Returns the highest.
    fn write(&self, records: u64) -> u64 {
        let mut running = self.start(&[]);
        running.until(records);
        running.signal("-TERM");
        let (last, highest) = running.rest();
        assert_eq!(last, format!("WITNESS STOPPED {highest}"));
        highest
    }
}

struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    /// The next line, and the number in it.
    fn line(&mut self) -> (String, u64) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let number = line
            .split_whitespace()
            .last()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0);
        (line.trim_end().to_owned(), number)
    }

    fn signal(&self, signal: &str) {
        Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
    }

    /// Waits until so many records are announced.
    fn until(&mut self, records: u64) {
        while self.line().1 < records {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "it ended before record {records}"
            );
        }
    }

    fn after_the_announcements(&mut self) -> (String, u64) {
        loop {
            let line = self.line();
            if !line.0.starts_with("WITNESS WROTE") && line.0 != "WITNESS NEW" {
                return line;
            }
        }
    }

    /// The last line, and the highest number of all.
    fn rest(&mut self) -> (String, u64) {
        let (mut last, mut highest) = (String::new(), 0);
        loop {
            let (line, number) = self.line();
            if line.is_empty() {
                self.child.wait().unwrap();
                return (last, highest);
            }
            highest = highest.max(number);
            last = line;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn kills_at_any_moment_lose_nothing() {
    for pattern in ["append", "random", "rewrite-hot"] {
        let guest = Guest::new(pattern);
        let mut announced = 0;
        for round in 0..12 {
            let mut running = guest.start(&["--announced", &announced.to_string()]);
            let first = running.line();
            let expected = if round == 0 {
                "WITNESS NEW"
            } else {
                "WITNESS OK"
            };
            assert!(
                first.0.starts_with(expected),
                "{pattern} round {round}: {first:?}"
            );
            assert!(first.1 >= announced);
            sleep(Duration::from_micros(fastrand::u64(150_000..450_000)));
            running.signal("-KILL");
            announced = running.rest().1.max(first.1);
        }
        assert!(announced > 100, "{announced}");
        let (code, text) = guest.check(announced);
        assert_eq!((code, text.starts_with("WITNESS OK")), (0, true), "{text}");
        let disk = fs::read(guest.disk()).unwrap();
        let outside = disk[..START].iter().chain(&disk[START + AREA..]);
        assert!(
            outside.copied().all(|byte| byte == OUTSIDE),
            "the outside was touched"
        );
    }
}

#[test]
fn a_flipped_byte_is_reported_in_either_place() {
    let guest = Guest::new("append");
    let highest = guest.write(600);
    let slot = (highest - 10) % ((AREA / 4096 - 16) as u64);
    let at = START + (16 + slot as usize) * 4096 + 2000;
    flip(&guest.disk(), at);
    let (code, text) = guest.check(0);
    assert_eq!(code, 1);
    assert!(
        text.contains(&format!("slot={slot} where=raw found=corrupt")),
        "{text}"
    );
    assert!(text.ends_with("WITNESS FAILED 1\n"), "{text}");
    flip(&guest.disk(), at);
    assert_eq!(guest.check(highest).0, 0);
    let slot = (highest - 10) % ((FILES / 4096) as u64);
    flip(
        &guest.data().join("records-0000"),
        slot as usize * 4096 + 4090,
    );
    let (code, text) = guest.check(0);
    assert_eq!(code, 1);
    assert!(
        text.contains(&format!("slot={slot} where=file found=corrupt")),
        "{text}"
    );
}

/// In place, since the program may have the file open.
fn flip(path: &Path, at: usize) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at as u64).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_disk_that_went_back_in_time_is_reported() {
    let guest = Guest::new("random");
    let before = guest.write(100);
    let old = fs::read(guest.disk()).unwrap();
    // It may have written far more than was read from it before it was stopped.
    let highest = guest.write(before + 300);
    fs::write(guest.disk(), old).unwrap();
    let (code, text) = guest.check(0);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("where=raw") && text.contains("where=ledger"),
        "{text}"
    );
    // At a start it stops: the evidence is not overwritten.
    let mut running = guest.start(&[]);
    assert!(running.rest().0.starts_with("WITNESS FAILED"));
    assert!(highest >= before + 300);
}

#[test]
fn both_places_back_in_time_are_noticed_by_the_host() {
    let guest = Guest::new("random");
    let before = guest.write(50);
    let disk = fs::read(guest.disk()).unwrap();
    let files: Vec<_> = fs::read_dir(guest.data())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let files: Vec<_> = files
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    // It may have written far more than was read from it before it was stopped.
    let highest = guest.write(before + 500);
    fs::write(guest.disk(), disk).unwrap();
    for (bytes, path) in files {
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(guest.check(0).0, 0, "the guest alone cannot know");
    assert_eq!(guest.check(highest).0, 1, "the host saw the console");
}

#[test]
fn a_lost_disk_or_folder_is_not_taken_for_a_new_one() {
    let guest = Guest::new("append");
    guest.write(20);
    let disk = fs::read(guest.disk()).unwrap();
    fs::write(guest.disk(), vec![0; disk.len()]).unwrap();
    let (code, text) = guest.check(0);
    assert!(
        code == 1 && text.contains("slot=superblock where=raw found=nothing"),
        "{text}"
    );
    fs::write(guest.disk(), disk).unwrap();
    assert_eq!(guest.check(0).0, 0);
    fs::remove_dir_all(guest.data()).unwrap();
    fs::create_dir(guest.data()).unwrap();
    let (code, text) = guest.check(0);
    assert!(
        code == 1 && text.contains("slot=superblock where=file found=nothing"),
        "{text}"
    );
}

#[test]
fn a_check_while_running_is_exact() {
    let guest = Guest::new("append");
    // Slow enough that the area doesn't come round to slot 5 while this test is kept from looking.
    let mut running = guest.start(&["--rate", "50"]);
    running.until(20);
    running.signal("-USR1");
    let (line, number) = running.after_the_announcements();
    assert_eq!(line, format!("WITNESS OK {number}"));
    // Damage under its feet: the next writes go elsewhere.
    flip(&guest.disk(), START + (16 + 5) * 4096 + 100);
    running.signal("-USR1");
    let (line, _) = running.after_the_announcements();
    assert_eq!(
        line,
        "WITNESS LOST record=6 slot=5 where=raw found=corrupt expected=6"
    );
    assert_eq!(running.rest().0, "WITNESS FAILED 1");
}

#[test]
fn checks_come_as_often_as_asked() {
    let guest = Guest::new("append");
    let mut running = guest.start(&["--check-every", "0.3"]);
    let mut checks = 0;
    while checks < 3 {
        checks += u32::from(running.line().0.starts_with("WITNESS OK"));
    }
}

#[test]
fn another_size_or_pattern_is_refused() {
    let guest = Guest::new("append");
    guest.write(10);
    let other = Guest {
        folder: guest.folder,
        pattern: "random",
    };
    let mut running = other.start(&[]);
    let (last, _) = running.rest();
    assert!(last.contains("ERROR") && last.contains("Append"), "{last}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_drover-witness"));
    command
        .args(["check", "--device"])
        .arg(other.disk())
        .arg("--directory")
        .arg(other.data());
    let output = command
        .args(["--area-bytes", "1048576", "--file-bytes", "1048576"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("initialised with"));
}

#[test]
fn a_load_stays_in_the_area_and_reports_each_second() {
    let guest = Guest::new("random");
    let mut running = guest.start(&["load"]);
    for _ in 0..2 {
        let (line, _) = running.line();
        let words: Vec<_> = line.split_whitespace().collect();
        let names = ["iops=", "p50_us=", "p99_us=", "max_us="];
        assert_eq!((words[0], words.len()), ("LOAD", 5), "{line}");
        for (word, name) in words[1..].iter().zip(names) {
            let number = word.strip_prefix(name).map(str::parse::<u64>);
            assert!(matches!(number, Some(Ok(_))), "{line}");
        }
    }
    running.signal("-TERM");
    running.rest();
    assert!(running.child.wait().unwrap().success());
    let disk = fs::read(guest.disk()).unwrap();
    let outside = disk[..START + 16 * 4096]
        .iter()
        .filter(|byte| **byte != 0 && **byte != OUTSIDE)
        .chain(disk[START + AREA..].iter().filter(|byte| **byte != OUTSIDE));
    assert_eq!(outside.count(), 0, "the outside was touched");
    assert!(
        disk[START + 16 * 4096..START + AREA]
            .iter()
            .any(|byte| *byte != 0)
    );
    assert!(fs::read_dir(guest.data()).unwrap().next().is_none());
}
