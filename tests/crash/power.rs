//! The power goes: what has not reached the disk is lost. A command that has said that it is done has been believed.

use super::{
    commands::CASES,
    disk::{Disk, Scratch},
    ground::Ground,
    points::{self, Fate, Point, told},
    supervisor::{Act, Side},
};

#[test]
fn the_power_goes_at_any_call() {
    let Some(scratch) = Scratch::new() else { return };
    let grounds = Ground::all(&scratch);
    let sides = [Side::Entry, Side::Exit];
    let fates = sides.map(|side| [true, false].map(|flushed| Fate::Unpowered(side, flushed)));
    let points = points::of_calls(&grounds, fates.as_flattened());
    points::run(&points::sample(points, 40), &grounds, |ground, point| unpowered(&scratch, ground, point));
}

#[test]
fn what_is_done_survives() {
    let Some(scratch) = Scratch::new() else { return };
    let grounds = Ground::all(&scratch);
    let fates = [true, false].map(|flushed| Fate::Unpowered(Side::Exit, flushed));
    let ends = grounds.iter().flat_map(|(user, _)| CASES.iter().map(move |case| (*user, case)));
    let points = ends.flat_map(|(user, case)| fates.map(|fate| Point { user, case, fate, at: 0 }));
    points::run(&points::sample(points.collect(), 16), &grounds, |ground, point| {
        unpowered(&scratch, ground, point)
    });
}

/// The power goes at the point, or, where that is 0 or never comes, when the command is over.
fn unpowered(scratch: &Scratch, ground: &Ground, point: &Point) -> Result<(), String> {
    let Fate::Unpowered(side, flushed) = point.fate else { return Ok(()) };
    let file = scratch.path().join("disk");
    let Some(disk) = Disk::make(&file, &ground.place(), ground.owner()) else { return Ok(()) };
    ground.prepare(point.case);
    disk.sync();
    let cut = disk.plug();
    let traced = ground.trace(point.case.line, |at, now| match (at, now) == (point.at, side) {
        true => {
            cut(flushed);
            Act::Kill
        }
        false => Act::Go,
    });
    if traced.hit.is_none() {
        cut(flushed);
    }
    drop(cut);
    ground.end_all();
    disk.restart();
    ground.forget_boot();
    let done = traced.status.success() && point.case.durable;
    let outcome = ground.check(point.case, done);
    ground.end_all();
    outcome.map_err(|problem| told(&traced, &problem))
}
