//! The mode `load`: writes as fast as one writer can, and says each second how fast that was, so that
//! the host sees what a guest pays for being replicated. It leaves no records behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::block::{self, Aligned, BLOCK};
use crate::console::Console;
use crate::layout::{self, Sizes};
use crate::pattern::{Pattern, Slots};
use crate::record::Place;

/// Time between two lines.
const REPORT: Duration = Duration::from_secs(1);
/// Random bytes to write from, so many that a compressor meets no block twice in its window.
const CONTENT: usize = 4 << 20;

/// Writes blocks to random slots of the device, one at a time, until it is told to stop.
pub fn run(
    device: &Path,
    sizes: Sizes,
    console: &mut Console,
    stop: &AtomicBool,
) -> io::Result<()> {
    let disk = open(device, sizes)?;
    let mut content = Aligned::zeroed(CONTENT);
    File::open("/dev/urandom")?.read_exact(&mut content)?;
    let slots = Slots {
        pattern: Pattern::Random,
        seed: block::get(&content, 0),
        count: sizes.slots(Place::Raw),
    };
    let mut writes = content.chunks_exact(BLOCK).cycle().zip(1..);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let mut before = begun;
        let mut times = Vec::new();
        while before - begun < REPORT && !stop.load(Ordering::Relaxed) {
            let Some((data, number)) = writes.next() else {
                break;
            };
            disk.write_all_at(data, layout::slot_offset(slots.of(number)))?;
            let now = Instant::now();
            times.push(now - before);
            before = now;
        }
        console.line(report(&mut times, before - begun))?;
    }
    Ok(())
}

/// Past the page cache, but not durable by itself: as fast as the disk takes writes.
fn open(device: &Path, sizes: Sizes) -> io::Result<File> {
    let mut disk = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(device)?;
    let end = layout::AREA_START + sizes.raw;
    if disk.seek(SeekFrom::End(0))? < end {
        return Err(io::Error::other(format!("it is smaller than {end} bytes")));
    }
    Ok(disk)
}

/// The line about so many writes, one after the other, that took `elapsed` together.
fn report(times: &mut [Duration], elapsed: Duration) -> String {
    times.sort_unstable();
    let iops = times.len() as f64 / elapsed.as_secs_f64().max(f64::EPSILON);
    let [p50, p99, max] = [50, 99, 100].map(|share| percentile(times, share).as_micros());
    format!("LOAD iops={iops:.0} p50_us={p50} p99_us={p99} max_us={max}")
}

/// The smallest time that at least `percent` of 100 are not above; zero if there are none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(times: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        times.into_iter().map(Duration::from_micros).collect()
    }

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let hundred = micros(1..=100);
        for percent in 1..=100 {
            let expected = Duration::from_micros(percent as u64);
            assert_eq!(percentile(&hundred, percent), expected);
        }
        let few = micros([10, 20, 30]);
        let found = [1, 33, 34, 50, 67, 99].map(|percent| percentile(&few, percent).as_micros());
        assert_eq!(found, [10, 10, 20, 20, 30, 30]);
        assert_eq!(percentile(&micros([7]), 50), Duration::from_micros(7));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn a_line_tells_rate_and_percentiles() {
        let mut times = micros((1..=200).rev());
        assert_eq!(
            report(&mut times, Duration::from_millis(500)),
            "LOAD iops=400 p50_us=100 p99_us=198 max_us=200"
        );
    }
}
