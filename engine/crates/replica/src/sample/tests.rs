use super::*;
use crate::chunk::CHUNK_SIZE;
use std::io::{Seek, SeekFrom, Write};

const CHUNK: u64 = CHUNK_SIZE as u64;

async fn finished(request: SampleRequest) -> SampleStatus {
    let sample = Sample::start(request).await.unwrap();
    loop {
        let status = sample.status();
        if status.state != "running" {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// 4 chunks of text, 4 of noise, 4 allocated zeros, 4 holes.
fn image(folder: &std::path::Path) -> SampleRequest {
    let path = folder.join("vdisk.raw");
    let mut file = std::fs::File::create(&path).unwrap();
    let text = b"what a log looks like, line by line; ".repeat(4 * CHUNK as usize / 37 + 1);
    file.write_all(&text[..4 * CHUNK as usize]).unwrap();
    let noise: Vec<u8> = (0..4 * CHUNK).map(|_| rand::random()).collect();
    file.write_all(&noise).unwrap();
    file.write_all(&vec![0; 4 * CHUNK as usize]).unwrap();
    file.seek(SeekFrom::Start(16 * CHUNK)).unwrap();
    file.set_len(16 * CHUNK).unwrap();
    SampleRequest {
        endpoint: EndpointSpec::File {
            path,
            create: false,
        },
        size: 16 * CHUNK,
        chunks: 100,
        seed: 1,
        rate: None,
    }
}

#[tokio::test]
async fn it_says_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let found = finished(image(folder.path())).await;
    assert_eq!(found.state, "done", "{:?}", found.error);
    assert_eq!(found.allocated_bytes, 12 * CHUNK);
    assert_eq!((found.allocated_chunks, found.sampled_chunks), (12, 12));
    assert_eq!(found.read_bytes, 12 * CHUNK);
    assert_eq!(found.zero_bytes, 4 * CHUNK);
    let noise = 4 * CHUNK;
    let lz4 = found.compressed_bytes["lz4"];
    assert!((noise + 1..noise + 4 * CHUNK / 20).contains(&lz4), "{lz4}");
    assert!(found.compressed_bytes["zstd"] < lz4);
    assert!(
        found.speeds.values().all(|speed| *speed > 0.0),
        "{:?}",
        found.speeds
    );
    assert_eq!(found.chunks[4].lz4_bytes, CHUNK_SIZE);
    assert_eq!(found.chunks[8].zero_bytes, CHUNK_SIZE);
    assert_eq!(found.chunks[8].hash, found.chunks[9].hash);
    assert_ne!(found.chunks[0].hash, found.chunks[1].hash);
}

#[tokio::test]
async fn it_keeps_to_number_and_rate() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = image(folder.path());
    (request.chunks, request.rate) = (4, Some(4 << 20));
    let began = Instant::now();
    let found = finished(request).await;
    assert_eq!(found.sampled_chunks, 4);
    // The first 200 ms worth of tokens are there at once, and the last chunk is paid for afterwards;
    // the wait for tokens does not count as reading.
    let waited = began.elapsed().as_secs_f64() - found.read_seconds;
    assert!(waited > 0.15, "{waited}");
}

#[tokio::test]
async fn a_short_last_chunk_and_a_bad_endpoint() {
    let pattern = |size| SampleRequest {
        endpoint: EndpointSpec::Pattern { seed: 3 },
        size,
        chunks: 8,
        seed: 0,
        rate: None,
    };
    let found = finished(pattern(CHUNK + 5000)).await;
    assert_eq!(found.sampled_bytes, CHUNK + 5000);
    assert_eq!(found.compressed_bytes["zstd"], CHUNK + 5000);
    assert!(Sample::start(pattern(0)).await.is_err());
    let mut request = pattern(CHUNK);
    request.endpoint = EndpointSpec::Discard {};
    assert!(Sample::start(request).await.is_err());
}
