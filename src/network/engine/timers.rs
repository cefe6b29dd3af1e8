//! What is due when. Whoever is told that its time has come looks whether it still is.

use super::world::Source;
use rustix::time::Timespec;
use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

/// One time for each source: as many as there are flows, however fast these come and go.
#[derive(Debug, Default)]
pub struct Timers {
    earliest: BTreeSet<(Instant, Source)>,
    of: HashMap<Source, Instant>,
}

impl Timers {
    /// Tell `source` at `time`, and no longer when it was to be told before.
    pub fn set(&mut self, time: Instant, source: Source) {
        if let Some(before) = self.of.insert(source, time) {
            self.earliest.remove(&(before, source));
        }
        self.earliest.insert((time, source));
    }

    /// `source` is no more.
    pub fn forget(&mut self, source: Source) {
        if let Some(time) = self.of.remove(&source) {
            self.earliest.remove(&(time, source));
        }
    }

    /// How long to wait from `now` for the next one; `None`: for ever.
    pub fn timeout(&self, now: Instant) -> Option<Timespec> {
        let wait = self.earliest.first()?.0.saturating_duration_since(now);
        Some(Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() })
    }

    /// One whose time has come by `now`.
    pub fn due(&mut self, now: Instant) -> Option<Source> {
        let &(time, source) = self.earliest.first()?;
        (time <= now).then(|| {
            self.forget(source);
            source
        })
    }
}
