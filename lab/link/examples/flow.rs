//! Traffic to measure a link with.
//!
//! * `flow serve ADDRESS:PORT` answers the other two.
//! * `flow send ADDRESS:PORT SECONDS` sends over TCP for so long, waits until all has arrived, and
//!   prints bits/s.
//! * `flow ping ADDRESS:PORT COUNT INTERVAL` sends UDP datagrams, and prints how many came back, the
//!   mean of their round trips and its standard deviation in milliseconds.

use std::env;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn Error>>;

const BUFFER: usize = 256 << 10;
/// How long the last datagram is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address),
        ["send", address, seconds] => send(address, Duration::from_secs_f64(seconds.parse()?)),
        ["ping", address, count, interval] => ping(
            address,
            count.parse()?,
            Duration::from_secs_f64(interval.parse()?),
        ),
        _ => Err("usage: flow serve ADDRESS | send ADDRESS SECONDS | ping ADDRESS COUNT INTERVAL")?,
    }
}

fn serve(address: &str) -> Outcome {
    let listener = TcpListener::bind(address)?;
    let socket = UdpSocket::bind(address)?;
    thread::spawn(move || echo(&socket));
    println!("listening");
    let mut buffer = vec![0; BUFFER];
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut total = 0u64;
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                length => total += length as u64,
            }
        }
        stream.write_all(&total.to_be_bytes())?;
    }
    Ok(())
}

fn echo(socket: &UdpSocket) {
    let mut datagram = [0; 8];
    while let Ok((length, from)) = socket.recv_from(&mut datagram) {
        // A datagram that cannot go back is one that is lost.
        let _ = socket.send_to(&datagram[..length], from);
    }
}

fn send(address: &str, duration: Duration) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    let buffer = vec![0; BUFFER];
    let begin = Instant::now();
    while begin.elapsed() < duration {
        stream.write_all(&buffer)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    let bits = u64::from_be_bytes(total) as f64 * 8.0;
    println!("{:.0}", bits / begin.elapsed().as_secs_f64());
    Ok(())
}

fn ping(address: &str, count: u64, interval: Duration) -> Outcome {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let origin = Instant::now();
    let receiver = socket.try_clone()?;
    let times = thread::spawn(move || round_trips(&receiver, origin, count));
    for number in 0..count {
        thread::sleep((interval * number as u32).saturating_sub(origin.elapsed()));
        socket.send(&(origin.elapsed().as_nanos() as u64).to_be_bytes())?;
    }
    let times = times.join().map_err(|_| "the receiver panicked")?;
    let number = times.len() as f64;
    let mean = times.iter().sum::<f64>() / number;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / number;
    println!("{} {mean:.3} {:.3}", times.len(), variance.sqrt());
    Ok(())
}

/// In milliseconds; each datagram holds the moment it was sent.
fn round_trips(socket: &UdpSocket, origin: Instant, count: u64) -> Vec<f64> {
    let mut times = Vec::new();
    let mut sent = [0; 8];
    while times.len() < count as usize && socket.recv(&mut sent).is_ok() {
        let sent = Duration::from_nanos(u64::from_be_bytes(sent));
        times.push(origin.elapsed().saturating_sub(sent).as_secs_f64() * 1e3);
    }
    times
}
