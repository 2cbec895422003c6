//! Replacing a self-signed root with overlap: the new one is trusted everywhere before it signs,
//! the old one is trusted until it ends. Each step is one rename, so a crash between two of them
//! is found and finished at the next start.

use std::path::Path;
use std::time::SystemTime;

use ambit_identity::issue::{BACKDATE, NewRootOptions, certificate_dates, new_root, split_pem};

use super::authority::{AuthorityConfig, CaSetupError};
use super::files::{self, Access, CA_CERT, CA_KEY, FileError, NEXT, ROOT_CERT};

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// The set of trusted roots is another one.
    pub roots_changed: bool,
    /// A next root was made and is trusted from now on.
    pub staged: bool,
    /// The next root signs from now on.
    pub activated: bool,
}

/// Finishes or undoes what a crash interrupted. Keys are moved before certificates and made
/// before them, so what is there says how far it came.
pub(super) fn recover(dir: &Path) -> Result<(), FileError> {
    let next = dir.join(NEXT);
    match (next.join(CA_KEY).exists(), next.join(CA_CERT).exists()) {
        // The key moved, its certificate not yet.
        (false, true) => files::rename(&next.join(CA_CERT), &dir.join(CA_CERT)),
        // The key was made, its certificate not yet.
        (true, false) => files::remove(&next.join(CA_KEY)),
        (true, true) | (false, false) => Ok(()),
    }
}

/// Makes the step that is due, if any.
pub(super) fn step(config: &AuthorityConfig, now: SystemTime) -> Result<Maintenance, CaSetupError> {
    let dir = &config.data_dir;
    recover(dir)?;
    let mut done = Maintenance::default();
    let next = dir.join(NEXT).join(CA_CERT);
    if next.exists() {
        let (not_before, _) = dates(dir, &files::read(&next)?)?;
        trust(dir, &files::read(&next)?)?;
        if now >= not_before + BACKDATE + config.rotation_overlap {
            activate(dir)?;
            done.activated = true;
        }
    } else {
        let (not_before, not_after) = dates(dir, &files::read(&dir.join(CA_CERT))?)?;
        let life = not_after.duration_since(not_before).unwrap_or_default();
        if now >= not_after - life / 5 {
            stage(config, now)?;
            done.staged = true;
        }
    }
    retire(dir, now)?;
    Ok(done)
}

/// Makes the next root and has it trusted.
fn stage(config: &AuthorityConfig, now: SystemTime) -> Result<(), CaSetupError> {
    let dir = &config.data_dir;
    let next = dir.join(NEXT);
    files::create_dir(&next)?;
    let root = new_root(NewRootOptions {
        trust_domain: config.trust_domain.as_str(),
        lifetime: config.root_lifetime,
        now,
    })
    .map_err(|source| CaSetupError::Authority {
        dir: dir.display().to_string(),
        source,
    })?;
    files::write(&next.join(CA_KEY), &root.key_pem, Access::Owner)?;
    files::write(&next.join(CA_CERT), &root.cert_pem, Access::Everybody)?;
    trust(dir, &root.cert_pem)
}

/// Adds a root to the bundle unless it is there.
fn trust(dir: &Path, root_pem: &str) -> Result<(), CaSetupError> {
    let bundle = files::read(&dir.join(ROOT_CERT))?;
    let mut roots = split(dir, &bundle)?;
    for root in split(dir, root_pem)? {
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    write_roots(dir, &bundle, &roots)
}

/// Drops roots that have ended.
fn retire(dir: &Path, now: SystemTime) -> Result<(), CaSetupError> {
    let bundle = files::read(&dir.join(ROOT_CERT))?;
    let mut roots = Vec::new();
    for root in split(dir, &bundle)? {
        if dates(dir, &root)?.1 > now {
            roots.push(root);
        }
    }
    // With the last one gone nothing would be gained but an empty bundle.
    if roots.is_empty() {
        Ok(())
    } else {
        write_roots(dir, &bundle, &roots)
    }
}

fn write_roots(dir: &Path, before: &str, roots: &[String]) -> Result<(), CaSetupError> {
    let bundle = roots.concat();
    if bundle != before {
        files::write(&dir.join(ROOT_CERT), &bundle, Access::Everybody)?;
    }
    Ok(())
}

/// Lets the next root sign.
fn activate(dir: &Path) -> Result<(), FileError> {
    let next = dir.join(NEXT);
    files::rename(&next.join(CA_KEY), &dir.join(CA_KEY))?;
    files::rename(&next.join(CA_CERT), &dir.join(CA_CERT))
}

fn split(dir: &Path, pem: &str) -> Result<Vec<String>, CaSetupError> {
    split_pem(pem).map_err(|source| CaSetupError::Authority {
        dir: dir.display().to_string(),
        source,
    })
}

fn dates(dir: &Path, pem: &str) -> Result<(SystemTime, SystemTime), CaSetupError> {
    certificate_dates(pem).map_err(|source| CaSetupError::Authority {
        dir: dir.display().to_string(),
        source,
    })
}
