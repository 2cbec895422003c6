//! Leaving in order: work stops being accepted, what is open may end by itself, and what is still
//! open at the deadline is cut and counted.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The deadline where nothing is configured.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);
/// How long tasks get to end after they were cut, before the process goes on without them.
const CUT_TIME: Duration = Duration::from_secs(1);

/// What takes part in a drain. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    draining: CancellationToken,
    cut: CancellationToken,
    tracker: TaskTracker,
}

/// Held as long as something is open that a drain must wait for.
#[derive(Debug)]
pub struct DrainGuard(#[expect(dead_code, reason = "held for its drop")] TaskTrackerToken);

/// Starts the drain.
#[derive(Debug)]
pub struct DrainTrigger(Drain);

/// What came of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOutcome {
    /// What was still open at the deadline and was cut.
    pub cut: usize,
    /// What did not even end when it was cut.
    pub abandoned: usize,
}

/// A trigger and what it drains.
#[must_use]
pub fn channel() -> (DrainTrigger, Drain) {
    let drain = Drain {
        draining: CancellationToken::new(),
        cut: CancellationToken::new(),
        tracker: TaskTracker::new(),
    };
    (DrainTrigger(drain.clone()), drain)
}

impl Drain {
    /// Whether the drain has begun: nothing new may be accepted.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when the drain begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// Resolves when the deadline has passed: end now.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Makes the drain wait until the guard is dropped.
    #[must_use]
    pub fn hold(&self) -> DrainGuard {
        DrainGuard(self.tracker.token())
    }

    /// What the drain would wait for now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.tracker.len()
    }

    /// A drain of its own that also begins and is cut with this one: for one pod or listener.
    #[must_use]
    pub fn child(&self) -> (DrainTrigger, Drain) {
        let drain = Self {
            draining: self.draining.child_token(),
            cut: self.cut.child_token(),
            tracker: TaskTracker::new(),
        };
        (DrainTrigger(drain.clone()), drain)
    }
}

impl DrainTrigger {
    /// Begins, waits at most `deadline` for what is open, then cuts the rest.
    pub async fn drain(self, deadline: Duration) -> DrainOutcome {
        let Drain {
            draining,
            cut,
            tracker,
        } = self.0;
        draining.cancel();
        tracker.close();
        if tokio::time::timeout(deadline, tracker.wait()).await.is_ok() {
            cut.cancel();
            return DrainOutcome {
                cut: 0,
                abandoned: 0,
            };
        }
        let left = tracker.len();
        cut.cancel();
        let ended = tokio::time::timeout(CUT_TIME, tracker.wait()).await.is_ok();
        DrainOutcome {
            cut: left,
            abandoned: if ended { 0 } else { tracker.len() },
        }
    }

    /// Begins and cuts at once.
    pub async fn cut(self) -> DrainOutcome {
        self.drain(Duration::ZERO).await
    }
}

/// How long a drain may take: the configured deadline, else the pod's grace period less what ending
/// takes (5 s, or 1 s of a short one), else [`DEFAULT_DEADLINE`].
#[must_use]
pub fn deadline(configured: Option<Duration>, grace_period: Option<Duration>) -> Duration {
    configured
        .or_else(|| grace_period.map(within_grace))
        .unwrap_or(DEFAULT_DEADLINE)
}

fn within_grace(grace: Duration) -> Duration {
    let reserve = if grace > Duration::from_secs(10) {
        5
    } else {
        1
    };
    grace.saturating_sub(Duration::from_secs(reserve))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn the_deadline_leaves_time_to_end() {
        for (configured, grace, want) in [
            (None, None, 5),
            (Some(7), Some(30), 7),
            (None, Some(30), 25),
            (None, Some(11), 6),
            (None, Some(10), 9),
            (None, Some(1), 0),
            (None, Some(0), 0),
        ] {
            let got = deadline(configured.map(secs), grace.map(secs));
            assert_eq!(got, secs(want), "{configured:?} {grace:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_by_itself_is_not_cut() {
        let (trigger, drain) = channel();
        let guard = drain.hold();
        let waiter = drain.clone();
        tokio::spawn(async move {
            waiter.draining().await;
            tokio::time::sleep(secs(3)).await;
            assert!(!waiter.is_cut());
            drop(guard);
        });
        let outcome = trigger.drain(secs(5)).await;
        assert_eq!(
            outcome,
            DrainOutcome {
                cut: 0,
                abandoned: 0
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_is_cut_at_the_deadline_and_counted() {
        let (trigger, drain) = channel();
        let (polite, stubborn) = (drain.hold(), drain.hold());
        let waiter = drain.clone();
        tokio::spawn(async move {
            waiter.cut().await;
            drop(polite);
        });
        let start = tokio::time::Instant::now();
        let outcome = trigger.drain(secs(5)).await;
        assert_eq!(
            outcome,
            DrainOutcome {
                cut: 2,
                abandoned: 1
            }
        );
        assert!(start.elapsed() >= secs(5) && start.elapsed() < secs(7));
        drop(stubborn);
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_drains_alone_or_with_its_parent() {
        let (parent_trigger, parent) = channel();
        let (child_trigger, child) = parent.child();
        let (_other_trigger, other) = parent.child();
        child_trigger.cut().await;
        assert!(child.is_draining() && !parent.is_draining() && !other.is_draining());
        parent_trigger.cut().await;
        assert!(other.is_draining() && other.is_cut());
    }
}
