//! Measures this client: `throughput SOCKET read|write LENGTH DEPTH [CONNECTIONS]`.
//!
//! Reads or writes the whole default export of the server on a unix socket in requests of LENGTH
//! bytes, DEPTH of them in flight, and prints bytes/s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use nbd::{Address, Error, Export, Pool};

fn usage() -> ! {
    eprintln!("usage: throughput SOCKET read|write LENGTH DEPTH [CONNECTIONS]");
    std::process::exit(2);
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at)?.parse::<u32>().ok();
    let (Some(socket), Some(verb), Some(length), Some(depth)) =
        (arguments.first(), arguments.get(1), number(2), number(3))
    else {
        usage()
    };
    let address = Address::Unix(socket.into());
    let export = Export {
        address,
        name: String::new(),
        meta_contexts: Vec::new(),
    };
    let pool = Arc::new(Pool::connect(&export, number(4).unwrap_or(1) as usize).await?);
    let size = pool.info().size;
    let (next, writing) = (Arc::new(AtomicU64::new(0)), verb == "write");
    let begin = Instant::now();
    let workers: Vec<_> = (0..depth)
        .map(|_| tokio::spawn(work(pool.clone(), next.clone(), length, writing)))
        .collect();
    for worker in workers {
        worker.await.unwrap_or(Err(Error::Closed))?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{verb} {length} bytes x {depth} over {} connections: {:.0} MB/s, {:.0} requests/s",
        pool.connections(),
        size as f64 / seconds / 1e6,
        size as f64 / f64::from(length) / seconds,
    );
    Ok(())
}

async fn work(
    pool: Arc<Pool>,
    next: Arc<AtomicU64>,
    length: u32,
    writing: bool,
) -> Result<(), Error> {
    let data = Bytes::from(vec![1; length as usize]);
    loop {
        let at = next.fetch_add(u64::from(length), Ordering::Relaxed);
        let Some(left) = pool.info().size.checked_sub(at).filter(|left| *left > 0) else {
            return Ok(());
        };
        let length = left.min(u64::from(length)) as usize;
        match writing {
            true => pool.write(at, data.slice(..length), false).await?,
            false => drop(pool.read(at, length as u32).await?),
        }
    }
}
