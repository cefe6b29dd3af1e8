//! The client of the first start: told that all is well, attached, and with `init` waited for once more.

use super::{
    begin::Manner,
    event::{Event, Subject},
    networks::Networks,
    pump::leave_streams,
    watch::Watch,
};
use crate::{
    container::state::Process,
    network::plug::Inside,
    storage::{ContainerDir, Store},
    sys::fork::Child,
};
use anyhow::{Context, Result};
use rustix::{io::fcntl_dupfd_cloexec, stdio};
use std::os::fd::BorrowedFd;

/// With `init` this is where the payload waits for `start`; its client is told that all is well so far. Whether it may go
/// on.
pub fn hold(
    store: &Store,
    dir: &ContainerDir,
    watch: &mut Watch,
    first: &mut Option<(u64, Manner)>,
    child: &Child,
    networks: &mut Networks,
    inside: Inside<'_>,
) -> Result<bool> {
    let Some((client, manner)) = first.take_if(|(_, manner)| manner.hold) else { return Ok(true) };
    Process { waits: true, ..Process::of(child.pid.as_raw_pid())? }.write(dir)?;
    introduce(watch, client, manner, false, Subject::new(child, &[], None))?;
    loop {
        match watch.until(Some(Subject::new(child, networks.memberships(), None)), None)? {
            Event::Go => return Ok(true),
            Event::Ended(_) => return Ok(false),
            Event::Networks(client) => watch.tell(client, &networks.obey(store, dir, inside), &[]),
            Event::Line => networks.attend(dir, inside),
            Event::Due | Event::Stop | Event::Checked | Event::Reload | Event::Notice(_) => {}
        }
    }
}

/// Tell the client that the payload runs, and attach it.
pub fn introduce(
    watch: &mut Watch,
    client: u64,
    manner: Manner,
    tty: bool,
    subject: Subject<'_>,
) -> Result<()> {
    let copy = |wanted: bool, fd: BorrowedFd<'_>| {
        wanted.then(|| fcntl_dupfd_cloexec(fd, 3)).transpose().context("duplicate a standard stream")
    };
    let [out, err] = manner.output;
    // With a terminal even who types nothing decides about its size.
    let input = manner.foreground && (manner.stdin || tty);
    watch.attach(client, [copy(out, stdio::stdout())?, copy(err, stdio::stderr())?], input);
    watch.introduce(Some(client), subject);
    if !manner.foreground {
        leave_streams();
    }
    Ok(())
}
