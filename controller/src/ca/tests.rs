//! The authority on disk and on the wire.

mod disk;
mod wire;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_identity::Clock;
use ambit_model::Identity;
use parking_lot::Mutex;

use super::{AuthorityConfig, CertificateAuthority};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A clock that can be set.
#[derive(Debug)]
struct SetClock(Mutex<SystemTime>);

impl SetClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(SystemTime::now())))
    }

    fn advance(&self, by: Duration) {
        *self.0.lock() += by;
    }
}

impl Clock for SetClock {
    fn now(&self) -> SystemTime {
        *self.0.lock()
    }
}

fn web() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()
}

fn open(dir: &std::path::Path, clock: &Arc<SetClock>) -> CertificateAuthority {
    let config = AuthorityConfig {
        root_lifetime: 100 * DAY,
        ..AuthorityConfig::new(dir)
    };
    CertificateAuthority::open(config, Arc::clone(clock) as _).unwrap()
}
