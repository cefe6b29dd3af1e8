//! What is due when. Whoever is told that its time has come looks whether it still is.

use super::world::Source;
use rustix::time::Timespec;
use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// Times, earliest first.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(Instant, Source)>>);

impl Timers {
    /// Tell `source` at `time`.
    pub fn set(&mut self, time: Instant, source: Source) {
        self.0.push(Reverse((time, source)));
    }

    /// How long to wait from `now` for the next one; `None`: for ever.
    pub fn timeout(&self, now: Instant) -> Option<Timespec> {
        let wait = self.0.peek()?.0.0.saturating_duration_since(now);
        Some(Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() })
    }

    /// One whose time has come by `now`.
    pub fn due(&mut self, now: Instant) -> Option<Source> {
        let Reverse((time, source)) = *self.0.peek()?;
        (time <= now).then(|| {
            self.0.pop();
            source
        })
    }
}
