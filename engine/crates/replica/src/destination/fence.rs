//! The highest fencing token seen, and the highest that is fenced; both survive a restart.

use super::lock;
use drover_link::RefuseCode;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Kept {
    highest: u64,
    fenced: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
    kept: Mutex<Kept>,
}

impl Tokens {
    pub(super) fn load(state: &Path) -> io::Result<Self> {
        let path = state.join("tokens.json");
        let kept = match std::fs::read(&path) {
            Ok(raw) => serde_json::from_slice(&raw).map_err(|error| {
                // Guessing would let an old source write; an administrator must look.
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is damaged: {error}", path.display()),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Tokens {
            path,
            kept: Mutex::new(kept),
        })
    }

    /// Lets a token in and remembers it, or says why not.
    pub(super) fn admit(&self, token: u64) -> Result<(), (RefuseCode, String)> {
        let mut kept = lock(&self.kept);
        if let Some(fenced) = kept.fenced.filter(|fenced| token <= *fenced) {
            let text =
                format!("the destination is fenced for tokens up to {fenced}, this one is {token}");
            return Err((RefuseCode::Fenced, text));
        }
        if token < kept.highest {
            let text = format!(
                "token {token} is older than {}, which was seen already",
                kept.highest
            );
            return Err((RefuseCode::TokenTooLow, text));
        }
        if token > kept.highest {
            let next = Kept {
                highest: token,
                ..*kept
            };
            self.store(&next).map_err(|error| {
                (
                    RefuseCode::NotReady,
                    format!("storing token {token} failed: {error}"),
                )
            })?;
            *kept = next;
        }
        Ok(())
    }

    pub(super) fn is_fenced(&self, token: u64) -> bool {
        lock(&self.kept)
            .fenced
            .is_some_and(|fenced| token <= fenced)
    }

    /// Fences `token` and all below, for good.
    pub(super) fn fence(&self, token: u64) -> io::Result<()> {
        let mut kept = lock(&self.kept);
        let fenced = kept.fenced.unwrap_or(0).max(token);
        let next = Kept {
            fenced: Some(fenced),
            ..*kept
        };
        self.store(&next)?;
        *kept = next;
        Ok(())
    }

    fn store(&self, kept: &Kept) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_only_grow_and_survive() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::load(folder.path()).unwrap();
        tokens.admit(5).unwrap();
        assert_eq!(tokens.admit(4).unwrap_err().0, RefuseCode::TokenTooLow);
        tokens.fence(6).unwrap();
        tokens.fence(3).unwrap();
        let tokens = Tokens::load(folder.path()).unwrap();
        assert_eq!(tokens.admit(6).unwrap_err().0, RefuseCode::Fenced);
        assert!(tokens.is_fenced(6) && !tokens.is_fenced(7));
        tokens.admit(7).unwrap();
    }

    #[test]
    fn a_damaged_file_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokens.json"), b"{\"highest\":").unwrap();
        assert!(Tokens::load(folder.path()).is_err());
    }
}
