//! The authority's files: read with their name in every error, written whole and, where they
//! hold a key, readable by the owner only.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `ca-cert.pem`: the certificate that signs.
pub(super) const CA_CERT: &str = "ca-cert.pem";
/// `ca-key.pem`: its key.
pub(super) const CA_KEY: &str = "ca-key.pem";
/// `root-cert.pem`: the trusted roots.
pub(super) const ROOT_CERT: &str = "root-cert.pem";
/// `cert-chain.pem`: from the signing certificate towards the root.
pub(super) const CERT_CHAIN: &str = "cert-chain.pem";
/// Where the next root waits for its time.
pub(super) const NEXT: &str = "next";
/// The key of node tokens.
pub(super) const TOKEN_KEY: &str = "node-token-key.pem";
/// Held while files are made or changed.
const LOCK: &str = "lock";

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Owner,
    Everybody,
}

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}")]
pub struct FileError {
    action: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

impl FileError {
    fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.display().to_string(),
            source,
        }
    }
}

/// Makes the directory, for its owner only.
pub(super) fn create_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| FileError::new("cannot create directory", path, error))
}

/// Waits for the directory's lock, which ends with the value: two processes (the controller and
/// `node-token`) may meet on a first start.
pub(super) fn lock(dir: &Path) -> Result<File, FileError> {
    let path = dir.join(LOCK);
    let error = |error| FileError::new("cannot lock", &path, error);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(error)?;
    file.lock().map_err(error)?;
    Ok(file)
}

/// Reads a text file.
pub(super) fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|error| FileError::new("cannot read", path, error))
}

/// Reads a text file that may be missing: then it is empty.
pub(super) fn read_optional(path: &Path) -> Result<String, FileError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.map_err(|error| FileError::new("cannot read", path, error)),
    }
}

/// Replaces a file as a whole: a reader, or a crash, sees the old or the new content.
pub(super) fn write(path: &Path, content: &str, access: Access) -> Result<(), FileError> {
    let error = |error| FileError::new("cannot write", path, error);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mode = match access {
        Access::Owner => 0o600,
        Access::Everybody => 0o644,
    };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(&temporary)
        .map_err(error)?;
    // A file left over from a crash keeps its old mode.
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(error)?;
    file.write_all(content.as_bytes()).map_err(error)?;
    file.sync_all().map_err(error)?;
    rename(&temporary, path)
}

/// Moves a file over another.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(|error| FileError::new("cannot replace", to, error))
}

/// Removes a file that may be missing.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("cannot remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Says when a key can be read by others than its owner.
pub(super) fn warn_if_exposed(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "key readable by others than its owner");
    }
}
