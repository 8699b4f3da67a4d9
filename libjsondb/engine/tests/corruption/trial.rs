//! One folder that is damaged, asked, and restored, again and again.

use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use engine::{Database, Error, ErrorKind, Options};

use crate::common::scratch;
use crate::content::{Asked, Content, keep, write};
use crate::subject::{Files, is_log};

/// What is done to a folder.
pub struct Damage {
    pub what: &'static str,
    /// Files with other bytes, or None for one that is removed.
    pub files: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// Where in them it begins: no error may point behind it.
    pub at: usize,
}

impl Damage {
    /// One file gets other bytes.
    pub fn to(what: &'static str, path: &Path, bytes: Vec<u8>, at: usize) -> Damage {
        Damage { what, files: vec![(path.to_owned(), Some(bytes))], at }
    }

    fn touches(&self, file: &Path) -> bool {
        self.files.iter().any(|(path, _)| path == file)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.files.iter().map(|(path, _)| path).collect();
        write!(f, "{} at {}: {names:?}", self.what, self.at)
    }
}

/// How a database that was damaged behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is missing, and it goes on.
    Harmless,
    /// Whatever is not as it was is refused.
    Detected,
}

/// Whether the trial makes a checkpoint as well: it reads what nobody else reads, and removes files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    No,
    Yes,
}

pub struct Trial<'a> {
    files: &'a Files,
    content: &'a Content,
    written: Content,
    _scratch: tempfile::TempDir,
    folder: PathBuf,
}

const KEY: &[u8] = b"written after the damage";

impl<'a> Trial<'a> {
    /// A folder of these files, which is to answer `content` or nothing.
    pub fn new(files: &'a Files, content: &'a Content) -> Trial<'a> {
        let scratch = scratch();
        let folder = scratch.path().canonicalize().unwrap();
        for sub in ["log", "man", "seg", "pin", "tmp"] {
            fs::create_dir(folder.join(sub)).unwrap();
        }
        for (path, bytes) in files {
            fs::write(folder.join(path), bytes).unwrap();
        }
        Trial { files, content, written: content.written(KEY), _scratch: scratch, folder }
    }

    /// Damages files, asks everything, and restores them. Fails when the database panics, answers wrongly, or blames something
    /// else.
    pub fn judge(&self, damage: &Damage, checkpoint: Checkpoint) -> Result<Verdict, String> {
        for (path, bytes) in &damage.files {
            let path = self.folder.join(path);
            match bytes {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
        let asked = catch_unwind(AssertUnwindSafe(|| self.ask(checkpoint)));
        self.restore(damage);
        let refused = asked
            .unwrap_or_else(|_| Err("a panic".into()))
            .and_then(|refused| {
                refused.iter().try_for_each(|error| self.check(error, damage)).map(|()| refused)
            })
            .map_err(|what| format!("{damage}: {what}"))?;
        Ok(if refused.is_empty() { Verdict::Harmless } else { Verdict::Detected })
    }

    /// Reads everything, verifies, commits, and reads it again from the reopened database.
    fn ask(&self, checkpoint: Checkpoint) -> Asked {
        let mut refused = Vec::new();
        let mut content = self.content;
        if let Some(database) = keep(open(&self.folder), &mut refused) {
            refused.extend(content.ask(&database)?);
            keep(database.verify(), &mut refused);
            if keep(write(&database, KEY), &mut refused).is_some() {
                content = &self.written;
            }
            if checkpoint == Checkpoint::Yes {
                keep(database.checkpoint(), &mut refused);
                refused.extend(content.ask(&database)?);
            }
            // The last to close makes a checkpoint where it is worth one.
            keep(database.close(), &mut refused);
        }
        // Also when it was refused: that must not have changed anything.
        if let Some(database) = keep(open(&self.folder), &mut refused) {
            refused.extend(content.ask(&database)?);
            keep(database.close(), &mut refused);
        }
        Ok(refused)
    }

    /// The error names a damaged file, and a place that is not behind the damage.
    fn check(&self, error: &Error, damage: &Damage) -> Result<(), String> {
        let Some(place) = error.corrupt_at().filter(|_| error.kind() == ErrorKind::Corrupt) else {
            return Err(format!("{:?}: {error}", error.kind()));
        };
        let file = place.file.strip_prefix(&self.folder).unwrap();
        let named = error.message().contains(file.to_str().unwrap())
            && error.message().contains(&format!("offset {}", place.offset));
        // An announcement of more than there is cannot be told from a log that lost it.
        let announced_more = damage.touches(Path::new("log/TAIL")) && is_log(file);
        if named && (damage.touches(file) || announced_more) && place.offset <= damage.at as u64 {
            Ok(())
        } else {
            Err(format!("it blames another place: {error}"))
        }
    }

    /// Puts back what was damaged, what a commit writes to, and what is gone; removes what is new.
    fn restore(&self, damage: &Damage) {
        for sub in ["", "log", "man", "seg", "pin", "tmp"] {
            for entry in fs::read_dir(self.folder.join(sub)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() && !self.files.contains_key(path.strip_prefix(&self.folder).unwrap()) {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        let newest = self.files.keys().rfind(|path| is_log(path));
        for (path, bytes) in self.files {
            let full = self.folder.join(path);
            if damage.touches(path) || Some(path) == newest || path.ends_with("TAIL") || !full.exists() {
                fs::write(full, bytes).unwrap();
            }
        }
    }
}

fn open(folder: &Path) -> engine::Result<Database> {
    Database::open(folder, &Options { page_cache_bytes: 256 << 10, ..Options::default() })
}
