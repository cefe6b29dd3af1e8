//! Real errors: a disk that is too small, too few inodes, too few descriptors; and what must work all the same.

use super::{
    commands::CASES,
    disk::{Disk, Scratch, mount_memory, remount, resize, unmount},
    ground::{Ground, Said},
    points::{self, Fate, ended_well, told},
    supervisor::Act,
};
use std::{fs::File, io::Write};

#[test]
fn a_disk_is_too_small() {
    let Some(scratch) = Scratch::new() else { return };
    let grounds = Ground::all(&scratch);
    let points = points::of_numbers(&grounds, &[Fate::Pages, Fate::Inodes], 0..=24);
    points::run(&points::sample(points, 30), &grounds, |ground, point| {
        let place = ground.place();
        mount_memory(&place, &ground.options());
        ground.prepare(point.case);
        resize(&place, point.fate == Fate::Inodes, point.at as u64);
        let traced = ground.trace(point.case.line, |_, _| Act::Go);
        let outcome = ended_well(&traced);
        resize(&place, point.fate == Fate::Inodes, 10_000);
        let outcome = outcome.and_then(|done| ground.check(point.case, done));
        ground.end_all();
        unmount(&place);
        outcome.map_err(|problem| told(&traced, &problem))
    });
}

#[test]
fn descriptors_run_out() {
    let Some(scratch) = Scratch::new() else { return };
    let grounds = Ground::all(&scratch);
    let points = points::of_numbers(&grounds, &[Fate::Descriptors], 3..=64);
    points::run(&points::sample(points, 30), &grounds, |ground, point| {
        ground.prepare(point.case);
        let limit = format!("--nofile={0}:{0}", point.at);
        let traced = ground.trace_within(&["prlimit", &limit, "--"], point.case.line, |_, _| Act::Go);
        let done = ended_well(&traced)?;
        ground.check(point.case, done).map_err(|problem| told(&traced, &problem))
    });
}

/// Everything can be removed without a free byte, and looked at without writing one.
#[test]
fn a_full_disk_and_one_that_is_read_only() {
    let Some(scratch) = Scratch::new() else { return };
    for (user, ground) in Ground::all(&scratch) {
        let file = scratch.path().join("disk");
        let Some(disk) = Disk::make(&file, &ground.place(), ground.owner()) else { return };
        ground.restore("ended");
        remount(&ground.place(), true).expect("make the disk read-only");
        let ended = CASES.iter().find(|case| case.state == "ended").expect("a command");
        ground.is_readable(ended).unwrap_or_else(|problem| panic!("{user:?}, read-only: {problem}"));
        remount(&ground.place(), false).expect("make the disk writable");
        let mut filler = File::create(ground.place().join("filler")).expect("make a file");
        for size in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
        rustix::fs::syncfs(&filler).expect("fill the disk");
        drop(filler);
        let removals = || -> Said {
            ground.exits(&["rm", "job"], 0)?;
            ground.exits(&["container", "prune", "-f"], 0)?;
            ground.exits(&["rmi", "image"], 0)?;
            ground.empties().map(|()| String::new())
        };
        removals().unwrap_or_else(|problem| panic!("{user:?}, on a full disk: {problem}"));
        drop(disk);
    }
}
