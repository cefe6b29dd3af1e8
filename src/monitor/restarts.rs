//! Whether a container that ended is started again, and when.

use crate::container::record::Restart;
use std::time::Duration;

/// What comes after an end.
pub enum After {
    /// Nothing.
    End,
    /// A start, so long afterwards.
    Again(Duration),
}

/// podman-run(1), `--restart`; the pauses are Docker's.
pub fn again(policy: Restart, code: u8, count: u32, ran: Duration) -> After {
    let wanted = match policy {
        Restart::No => false,
        Restart::OnFailure(limit) => code != 0 && (limit == 0 || count < limit),
        Restart::Always | Restart::UnlessStopped => true,
    };
    if !wanted {
        return After::End;
    }
    let doubled = if ran > LONG { 0 } else { count.min(10) };
    After::Again((SHORTEST * (1 << doubled)).min(LONGEST))
}

/// Who ran so long has not failed at the start.
const LONG: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
