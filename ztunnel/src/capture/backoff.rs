//! Growing pauses with jitter.

use std::time::Duration;

use rand::RngExt as _;

/// Doubles from the first pause to the last, each varied by a fifth.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    /// From the first pause to the last.
    #[must_use]
    pub fn new((first, last): (Duration, Duration)) -> Self {
        Self {
            first,
            last,
            next: first,
        }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.last);
        pause.mul_f64(rand::rng().random_range(0.8..=1.2))
    }

    /// Begins again after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_last_and_begin_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new((ms(10), ms(35)));
        for expected in [10, 20, 35, 35] {
            let pause = backoff.pause();
            let exact = ms(expected);
            assert!(
                pause >= exact.mul_f64(0.79) && pause <= exact.mul_f64(1.21),
                "{pause:?}"
            );
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(12));
    }
}
