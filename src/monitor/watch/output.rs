//! What a container prints, up to its end, as its monitor carries it.

use super::Watch;
use crate::monitor::{
    control::Tell,
    ended::{BROKEN_PIPE, Ended, leaves_broken_pipes_to_the_kernel, reap},
    event::Subject,
    streams::Flow,
};
use anyhow::Result;

impl Watch {
    /// Take what has come from the streams that are `ready`, and pass it on.
    pub(super) fn move_output(&mut self, ready: &[bool], subject: Option<Subject<'_>>) {
        let mut lagging = Vec::new();
        let Watch { log, lost, broken, buffer, .. } = self;
        let mut at = 0;
        self.streams.retain_mut(|stream| {
            at += 1;
            if ready.get(at - 1) != Some(&true) {
                return true;
            }
            let flow = stream.step(log, buffer, &mut lagging);
            // Asked before the payload hears of it: afterwards it may be gone.
            *broken |=
                flow == Flow::Lost && subject.is_some_and(|s| leaves_broken_pipes_to_the_kernel(s.pid));
            *lost = lost.or(flow.failure());
            flow == Flow::Open
        });
        for id in lagging {
            self.tell(id, &Tell::LetGo, &[]);
            self.clients.dismiss(id, &mut self.streams);
        }
    }

    /// How it ended, with the last of its output.
    pub(super) fn end(&mut self, subject: Subject<'_>) -> Result<Ended> {
        let oom = subject.group.is_some_and(|group| group.oom_kills() > 0);
        let ended = Ended { oom, ..reap(subject.pidfd)? };
        for stream in &mut self.streams {
            stream.drain(&mut self.log, &mut self.buffer);
            self.lost = self.lost.or(stream.fate().and_then(|flow| flow.failure()));
        }
        let broken = std::mem::take(&mut self.broken) && ended.code != 0;
        (self.kill_at, self.input) = (None, None);
        self.stopped |= self.sent.take().is_some_and(|number| i32::from(ended.code) == 128 + number);
        Ok(Ended { lost: self.lost.take(), ..if broken { BROKEN_PIPE } else { ended } })
    }
}
