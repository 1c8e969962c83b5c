//! The control socket: one JSON object a line in, one a line out.
//!
//! `{"get":{}}`, `{"set":{"rate":1e9,"delay":0.02}}`, and to change one direction only
//! `{"set":{"loss":0.01},"direction":"left_to_right"}`. Both answer
//! `{"left_to_right":{"settings":..,"counters":..},"right_to_left":..}`, or `{"error":"words"}`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::relay::{DIRECTIONS, Link};
use crate::settings::Change;

/// Longest line in bytes.
const MAX_LINE: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    get: Option<Nothing>,
    set: Option<Change>,
    direction: Option<Direction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Direction {
    LeftToRight,
    RightToLeft,
}

/// Serves all who connect, for as long as the program runs.
pub fn serve(listener: &UnixListener, link: &Arc<Link>) {
    for stream in listener.incoming() {
        let link = link.clone();
        let served = stream.and_then(|stream| {
            thread::Builder::new()
                .name("control client".into())
                .spawn(move || converse(&stream, &link))
        });
        if let Err(error) = served {
            eprintln!("drover-lab-link: control socket: {error}");
            thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

fn converse(stream: &UnixStream, link: &Link) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    let mut output = stream;
    loop {
        let mut line = Vec::new();
        if (&mut input).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let answer = answer(&line, link).unwrap_or_else(|error| json!({ "error": error }));
        output.write_all(format!("{answer}\n").as_bytes())?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
    }
}

fn answer(line: &[u8], link: &Link) -> Result<Value, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    match (line.get, line.set) {
        (Some(Nothing {}), None) => {}
        (None, Some(change)) => {
            change.check()?;
            let directions: &[usize] = match line.direction {
                None => &[0, 1],
                Some(Direction::LeftToRight) => &[0],
                Some(Direction::RightToLeft) => &[1],
            };
            link.set(&change, directions)?;
        }
        _ => return Err(r#"say either {"get":{}} or {"set":{..}}"#.into()),
    }
    let [left, right] = link
        .get()
        .map(|(settings, counters)| json!({ "settings": settings, "counters": counters }));
    Ok(json!({ (DIRECTIONS[0]): left, (DIRECTIONS[1]): right }))
}
