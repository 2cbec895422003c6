//! Waiting for a condition, with a deadline and a reason. Nothing here sleeps to synchronise; it polls.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Polls until `look` gives a value.
///
/// # Errors
/// When `limit` passes first; `what` and the last reason say what was waited for.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            match seen {
                Err(error) => bail!("waited {limit:?} for {what}: {error:#}"),
                Ok(_) => bail!("waited {limit:?} for {what}"),
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Polls until `look` is true.
///
/// # Errors
/// As [`until`].
pub fn until_true(limit: Duration, what: &str, mut look: impl FnMut() -> bool) -> Result<()> {
    until(limit, what, || Ok(look().then_some(())))
}
