//! How long to wait before the next connection.

use std::time::Duration;

use rand::RngExt;

/// Doubles from `initial` to `max`; each wait is drawn from the upper half.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            next: initial,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.initial;
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.max);
        wait.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(10), ms(80));
        for full in [10, 20, 40, 80, 80] {
            let wait = backoff.next();
            assert!(
                ms(full) / 2 <= wait && wait <= ms(full),
                "{wait:?} for {full}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= ms(10));
    }
}
