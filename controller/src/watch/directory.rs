//! The files of a directory: which of them count, and their texts. The only place that reads
//! object files.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::limits::{MAX_DEPTH, MAX_FILE_BYTES, MAX_FILES};
use crate::watch::Store;
use crate::watch::store::Stamp;

/// Why a directory cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Missing, not a directory, not permitted.
    #[error(
        "cannot read the directory {path:?} of objects: {source}; create it, or name another with --config"
    )]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More than any configuration has.
    #[error("{path:?} holds more than {MAX_FILES} object files; name a directory of objects only")]
    TooManyFiles {
        /// The directory.
        path: PathBuf,
    },
}

/// Compares every file with what the store knows. `true` when something changed.
pub(crate) fn scan(root: &Path, store: &mut Store) -> Result<bool, DirectoryError> {
    let mut files = BTreeSet::new();
    collect(root, root, 0, &mut files)?;
    let known: Vec<Arc<str>> = store.files().map(Arc::clone).collect();
    let mut changed = false;
    for gone in known.iter().filter(|name| !files.contains(&***name)) {
        changed |= store.remove(gone);
    }
    for name in &files {
        let stamp = fs::metadata(root.join(name))
            .ok()
            .map(|metadata| stamp_of(&metadata));
        if stamp.is_some_and(|stamp| store.has_stamp(name, stamp)) {
            continue;
        }
        changed |= read(root, name, store);
    }
    Ok(changed)
}

/// Reads the named paths if each of them is a plain file; `None`, with nothing read, when one is
/// something else, so that only comparing everything can tell.
pub(crate) fn refresh(root: &Path, paths: &BTreeSet<PathBuf>, store: &mut Store) -> Option<bool> {
    let mut wanted = Vec::new();
    for path in paths {
        let name = name_of(root, path)?;
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() && counts(path) => wanted.push(name),
            Ok(metadata) if metadata.is_file() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && counts(path) => {
                wanted.push(name);
            }
            // Gone without being an object file, nor a directory of them.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !store.has_under(&name) => {}
            _ => return None,
        }
    }
    let changed = wanted.iter().map(|name| read(root, name, store));
    Some(changed.fold(false, |any, changed| any | changed))
}

fn collect(
    root: &Path,
    path: &Path,
    depth: usize,
    files: &mut BTreeSet<String>,
) -> Result<(), DirectoryError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        // One that went away meanwhile, or a subdirectory that may not be read, takes nothing
        // else with it; the root must be there.
        Err(source) if depth == 0 => {
            return Err(DirectoryError::Unreadable {
                path: path.to_owned(),
                source,
            });
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read a subdirectory");
            return Ok(());
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if is_hidden(&path) {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() && depth < MAX_DEPTH {
            collect(root, &path, depth + 1, files)?;
        } else if metadata.is_file() && counts(&path) {
            files.extend(name_of(root, &path));
        }
        if files.len() > MAX_FILES {
            return Err(DirectoryError::TooManyFiles {
                path: root.to_owned(),
            });
        }
    }
    Ok(())
}

fn name_of(root: &Path, path: &Path) -> Option<String> {
    path.strip_prefix(root)
        .ok()
        .and_then(Path::to_str)
        .map(str::to_owned)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn counts(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    !is_hidden(path) && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn stamp_of(metadata: &fs::Metadata) -> Stamp {
    (
        metadata.ino(),
        metadata.len(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

fn read(root: &Path, name: &str, store: &mut Store) -> bool {
    match read_text(&root.join(name)) {
        Ok((text, stamp)) => {
            let changed = store.update(name, &text);
            store.set_stamp(name, stamp);
            changed
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => store.remove(name),
        Err(error) => store.set_unreadable(name, &format!("the file cannot be read: {error}")),
    }
}

fn read_text(path: &Path) -> io::Result<(String, Stamp)> {
    let file = fs::File::open(path)?;
    // Before it is read: a change meanwhile is found again.
    let stamp = stamp_of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!(
            "it is larger than {} MiB",
            MAX_FILE_BYTES >> 20
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
    Ok((text, stamp))
}
