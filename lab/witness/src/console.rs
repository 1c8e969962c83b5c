//! The lines that the host reads.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::oracle::Loss;

/// Most lost records that are named; the rest is counted.
const NAMED_LOSSES: usize = 20;

/// Where lines go: a device, or standard output.
pub struct Console {
    output: Box<dyn Write>,
}

impl Console {
    /// Opens `path`, or standard output.
    pub fn open(path: Option<&Path>) -> io::Result<Console> {
        let output: Box<dyn Write> = match path {
            Some(path) => Box::new(OpenOptions::new().append(true).open(path)?),
            None => Box::new(io::stdout()),
        };
        Ok(Console { output })
    }

    /// `WITNESS` and the words, as one write: other writers of the console stay apart.
    pub fn say(&mut self, words: impl fmt::Display) -> io::Result<()> {
        self.line(format_args!("WITNESS {words}"))
    }

    /// A whole line, as one write.
    pub fn line(&mut self, words: impl fmt::Display) -> io::Result<()> {
        self.output.write_all(format!("{words}\n").as_bytes())?;
        self.output.flush()
    }

    /// Names the first lost records, and counts all.
    pub fn say_lost(&mut self, headers: &[String], losses: &[Loss]) -> io::Result<()> {
        for header in headers {
            self.say(format_args!("LOST {header}"))?;
        }
        for Loss {
            place,
            slot,
            found,
            expected,
        } in losses.iter().take(NAMED_LOSSES)
        {
            self.say(format_args!(
                "LOST record={expected} slot={slot} where={place} found={found} expected={expected}"
            ))?;
        }
        self.say(format_args!("FAILED {}", headers.len() + losses.len()))
    }
}
