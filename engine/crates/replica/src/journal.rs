//! What of a VDISK is stable at the destination, on disk, surviving a crash at any byte.
//!
//! ```text
//! file   = header (128 bytes), frame, frame, ...
//! frame  = "DJB2", body length u32, sequence u64, synced u64, token u64, check [16], body
//! body   = records of 9 bytes: kind (1 stable, 2 forget), first chunk u32, how many u32;
//!          or kind 3 newer, chunk u32, mask of blocks u32
//! check  = first 16 bytes of BLAKE3 over the frame without the check
//! ```
//! Everything is little-endian. Frames are appended, then synced; only then may anybody be told.
//! `synced` is the last sequence that was on the medium when the frame was written. So a bad frame
//! can be told apart: if no later frame says that it had been synced, it is the torn end of the
//! last append, and cut off. If one does, the medium has lost something it had promised to keep,
//! and no claim of the journal is believed any more: everything is sent or compared again.
//!
//! Only chunks that were received or found equal as a whole are claimed. A write to a part of a chunk
//! changes no claim, and what is claimed already is not recorded again.
//!
//! The header has a random number, another one whenever a journal is made anew: whoever relied on
//! what a destination had acknowledged sees by it that nobody knows of that any more.
//!
//! The source's notes of what is on transport devices are such files, too: a claim means "on the
//! device", and `newer` names the blocks that the destination has in a newer version.
//!
//! The file is rewritten from memory (new file, sync, rename) when it has grown too long, and after
//! a failed append, whose bytes are in doubt. Rewritten it has one record for each run of stable
//! chunks, at most 9 MiB per TiB of the VDISK, if every other chunk is; and one for each chunk
//! that has newer blocks, at most 18 MiB instead. It grows to at most twice
//! that and 1 MiB, by whatever order and batches.

#[cfg(test)]
mod crashes;
mod format;
mod records;
#[cfg(test)]
mod tests;

pub use records::Record;

use crate::chunk::Geometry;
use format::{Frame, HEADER_BYTES, Scan, encode_header};
use records::Claims;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file may grow by this much over twice its last rewritten length.
const SLACK: u64 = 1 << 20;

/// Most records in one frame.
const FRAME_RECORDS: usize = (256 << 10) / Record::BYTES;

/// What a journal belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Name of the VDISK.
    pub name: String,
    /// Its size.
    pub geometry: Geometry,
    /// Number of the medium (an inode), 0 if it has none. Another medium makes all claims void.
    pub medium: u64,
}

/// What was found when a journal was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// None; a new one was made.
    Nothing,
    /// A journal; so many bytes of a torn end were cut off.
    Journal {
        /// Bytes cut off.
        torn: u64,
    },
    /// A journal that cannot be believed; a new one was made.
    Void(String),
}

/// The journal of one VDISK.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    subject: Subject,
    incarnation: u64,
    claims: Claims,
    sequence: u64,
    length: u64,
    rewritten_length: u64,
    in_doubt: bool,
}

impl Journal {
    /// Opens or makes the journal at `path`.
    pub fn open(path: &Path, subject: Subject) -> io::Result<(Journal, Found)> {
        let found = match File::open(path) {
            Ok(file) => Self::load(path, file, &subject)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Found::Nothing),
            Err(error) => return Err(error),
        };
        match found {
            Ok((journal, torn)) => Ok((journal, Found::Journal { torn })),
            Err(found) => Ok((Self::create(path, subject)?, found)),
        }
    }

    /// Makes a new journal without any claim, in place of whatever is there.
    pub fn create(path: &Path, subject: Subject) -> io::Result<Journal> {
        let claims = Claims::new(subject.geometry);
        let incarnation = rand::random();
        let header = encode_header(&subject, incarnation);
        let (file, length, sequence) = write_new(path, &header, &claims, 0)?;
        put_in_place(path)?;
        Ok(Journal {
            path: path.to_owned(),
            file,
            subject,
            incarnation,
            claims,
            sequence,
            length,
            rewritten_length: length,
            in_doubt: false,
        })
    }

    fn load(
        path: &Path,
        mut file: File,
        subject: &Subject,
    ) -> io::Result<Result<(Journal, u64), Found>> {
        let mut raw = Vec::new();
        file.read_to_end(&mut raw)?;
        let incarnation = match format::check_header(&raw, subject) {
            Ok(incarnation) => incarnation,
            Err(why) => return Ok(Err(Found::Void(why))),
        };
        let mut claims = Claims::new(subject.geometry);
        let mut scan = Scan::new(&raw[HEADER_BYTES..]);
        while let Some(frame) = scan.next() {
            for record in frame.records() {
                claims.apply(&record);
            }
        }
        if let Some(sequence) = scan.broken_promise() {
            let why = format!("frame {sequence} was on the medium and is damaged");
            return Ok(Err(Found::Void(why)));
        }
        let length = (HEADER_BYTES + scan.position()) as u64;
        let torn = raw.len() as u64 - length;
        let sequence = scan.sequence();
        let file = OpenOptions::new().append(true).open(path)?;
        if torn > 0 {
            file.set_len(length)?;
        }
        // What a killed process had written may not be on the medium yet; later frames say it is.
        file.sync_data()?;
        let header = encode_header(subject, incarnation);
        let rewritten_length = encode(&header, &claims, 0).0.len() as u64;
        let journal = Journal {
            path: path.to_owned(),
            file,
            subject: subject.clone(),
            incarnation,
            claims,
            sequence,
            length,
            rewritten_length,
            in_doubt: false,
        };
        Ok(Ok((journal, torn)))
    }

    /// Appends and syncs, if the records say anything new. When it returns an error nothing is
    /// claimed, and the next append rewrites the file.
    pub fn append(&mut self, records: &[Record], token: u64) -> io::Result<()> {
        // Somebody who tidies up folders may have deleted it.
        if self.in_doubt || self.file.metadata()?.nlink() == 0 {
            self.rewrite(token)?;
        }
        let records = self.claims.lacking(records);
        if records.is_empty() {
            return Ok(());
        }
        let synced = self.sequence;
        let mut bytes = Vec::new();
        for group in records.chunks(FRAME_RECORDS) {
            self.sequence += 1;
            Frame::encode(&mut bytes, self.sequence, synced, token, group);
        }
        self.in_doubt = true;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.in_doubt = false;
        self.length += bytes.len() as u64;
        records.iter().for_each(|record| self.claims.apply(record));
        if self.length > 2 * self.rewritten_length + SLACK && self.rewrite(token).is_err() {
            // Unless it is in doubt, the old file is as good as before; try again when it has grown.
            self.rewritten_length = self.length;
        }
        Ok(())
    }

    /// Drops all claims, and what is newer, under another incarnation.
    pub fn renew(&mut self, token: u64) -> io::Result<()> {
        self.claims = Claims::new(self.subject.geometry);
        self.incarnation = rand::random();
        self.rewrite(token)
    }

    fn rewrite(&mut self, token: u64) -> io::Result<()> {
        let header = encode_header(&self.subject, self.incarnation);
        let (file, length, sequence) = write_new(&self.path, &header, &self.claims, token)?;
        // Should this fail, nobody knows which of the two files a crash leaves.
        self.in_doubt = true;
        put_in_place(&self.path)?;
        self.file = file;
        self.length = length;
        self.rewritten_length = length;
        self.sequence = sequence;
        self.in_doubt = false;
        Ok(())
    }

    /// Whether the chunk is stable.
    pub fn is_stable(&self, chunk: u32) -> bool {
        self.claims.is_stable(chunk)
    }

    /// Blocks of a claimed chunk that are newer somewhere else, as a mask.
    pub fn newer(&self, chunk: u32) -> u8 {
        self.claims.newer(chunk)
    }

    /// Another number for each journal that was made anew.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// How many chunks are stable.
    pub fn stable_chunks(&self) -> u32 {
        self.claims.stable_chunks()
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// A whole file with these claims, and the sequence of its last frame.
fn encode(header: &[u8], claims: &Claims, token: u64) -> (Vec<u8>, u64) {
    let mut bytes = header.to_vec();
    let mut sequence = 0;
    for group in claims.snapshot().chunks(FRAME_RECORDS) {
        sequence += 1;
        // The file is renamed only when all of it is synced.
        Frame::encode(&mut bytes, sequence, sequence - 1, token, group);
    }
    (bytes, sequence)
}

/// Writes header and claims to a new file beside the old one, durably.
fn write_new(
    path: &Path,
    header: &[u8],
    claims: &Claims,
    token: u64,
) -> io::Result<(File, u64, u64)> {
    let (bytes, sequence) = encode(header, claims, token);
    let temporary = temporary(path);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok((file, bytes.len() as u64, sequence))
}

/// Puts the new file in the place of the old one, durably.
fn put_in_place(path: &Path) -> io::Result<()> {
    std::fs::rename(temporary(path), path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("journal.new")
}
