//! Each call that changes something is the last one, or fails, or the disk becomes read-only there.

use super::{
    disk::{Scratch, mount_memory, remount, unmount},
    ground::Ground,
    points::{self, ERRORS, Fate, Point, ended_well, told},
    supervisor::{Act, Side},
};

#[test]
fn killed_at_any_call() {
    let Some(scratch) = Scratch::new() else { return };
    let grounds = Ground::all(&scratch);
    let points = points::of_calls(&grounds, &[Side::Entry, Side::Exit].map(Fate::Killed));
    points::run(&points::sample(points, 110), &grounds, |ground, point| {
        ground.prepare(point.case);
        let traced = ground.trace(point.case.line, |at, side| {
            match (at, Fate::Killed(side)) == (point.at, point.fate) {
                true => Act::Kill,
                false => Act::Go,
            }
        });
        // Threads make a number of calls that differs a little: a command may be over before the call.
        let done = traced.status.success();
        ground.check(point.case, done).map_err(|problem| told(&traced, &problem))
    });
}

#[test]
fn any_call_may_fail() {
    let Some(scratch) = Scratch::new() else { return };
    let grounds = Ground::all(&scratch);
    let points = points::of_calls(&grounds, &ERRORS.map(Fate::Fails));
    points::run(&points::sample(points, 90), &grounds, |ground, point| {
        let Fate::Fails(errno) = point.fate else { return Ok(()) };
        ground.prepare(point.case);
        let traced = ground.trace(point.case.line, |at, side| match (at, side) == (point.at, Side::Entry) {
            true => Act::Fail(errno),
            false => Act::Go,
        });
        let done = ended_well(&traced)?;
        ground.check(point.case, done).map_err(|problem| told(&traced, &problem))
    });
}

#[test]
fn a_disk_becomes_read_only() {
    let Some(scratch) = Scratch::new() else { return };
    let grounds = Ground::all(&scratch);
    let points = points::of_calls(&grounds, &[Fate::ReadOnly]);
    points::run(&points::sample(points, 20), &grounds, read_only);
}

fn read_only(ground: &Ground, point: &Point) -> Result<(), String> {
    let place = ground.place();
    mount_memory(&place, &ground.options());
    ground.prepare(point.case);
    let mut is_read_only = false;
    let traced = ground.trace(point.case.line, |at, _| {
        // The kernel refuses while a file is open for writing: then at the next call.
        is_read_only |= at >= point.at && !is_read_only && remount(&place, true).is_ok();
        Act::Go
    });
    let mut outcome = ended_well(&traced);
    if is_read_only && outcome.is_ok() {
        outcome = ground.is_readable(point.case).and(outcome);
        remount(&place, false).expect("make the disk writable");
    }
    let outcome = outcome.and_then(|done| ground.check(point.case, done));
    ground.end_all();
    unmount(&place);
    outcome.map_err(|problem| told(&traced, &problem))
}
