//! A blob comes once, whoever wants it, and goes on where it stopped: after a cut, a signal, the death of its receiver.

mod support;

use rustix::process::Signal;
use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Stdio},
    time::{Duration, SystemTime},
};
use support::{Ctr, Fault, Faults, Pushed, User, ground, partials, without_partials};

/// The ranges in which the first layer was asked for.
fn ranges(faults: &Faults, image: &Pushed) -> Vec<Option<String>> {
    faults.asked("GET", &image.blobs[0]).into_iter().map(|seen| seen.range).collect()
}

fn from(byte: usize) -> Option<String> {
    Some(format!("bytes={byte}-"))
}

/// A pull whose first layer stands still after so many bytes, which are on the disk.
fn stalled(ctr: &Ctr, faults: &Faults, image: &Pushed, name: &str, bytes: usize) -> Child {
    faults.spoil(&image.blobs[0], Fault::Stall(bytes), 1);
    let child = start(ctr, name);
    faults.wait_stalled(1);
    await_bytes(ctr, &image.blobs[0], bytes as u64);
    child
}

fn start(ctr: &Ctr, name: &str) -> Child {
    let mut command = ctr.command(["pull", "-q", "--retry-delay=0s", name]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start ctr")
}

/// What has gone over a socket takes a moment to the disk, and nothing tells of it.
fn await_bytes(ctr: &Ctr, blob: &str, bytes: u64) {
    while partials(ctr).get(blob) != Some(&bytes) {
        std::thread::yield_now();
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("send a signal");
}

#[test]
fn an_interrupted_pull_leaves_what_has_come_and_nothing_else() {
    for &user in User::all() {
        for end in [Signal::INT, Signal::TERM] {
            let (ctr, faults, image) = ground(user, "resume/interrupted:latest");
            let before = ctr.store();
            let name = faults.name("resume/interrupted");
            let mut child = stalled(&ctr, &faults, &image, &name, 600_000);
            // The other layer is whole, and waits for this one.
            faults.wait_asked("GET", &image.blobs[1], 1);
            signal(&child, end);
            let status = child.wait().expect("wait for ctr");
            assert_eq!(status.signal(), Some(end.as_raw()), "as {user:?}: {status}");
            assert_eq!(without_partials(&ctr), before, "as {user:?}");
            assert_eq!(partials(&ctr).get(&image.blobs[0]), Some(&600_000), "as {user:?}");
            ctr.run(["pull", "-q", &name]).ok();
            assert_eq!(ranges(&faults, &image), [None, from(600_000)], "as {user:?}");
            ctr.run(["rmi", &name]).ok();
            assert_eq!(ctr.store(), before, "as {user:?}");
            faults.release();
        }
    }
}

#[test]
fn after_kill_9_the_next_pull_goes_on() {
    let (ctr, faults, image) = ground(User::Rootless, "resume/killed:latest");
    let name = faults.name("resume/killed");
    let mut child = stalled(&ctr, &faults, &image, &name, 600_000);
    child.kill().expect("kill ctr");
    child.wait().expect("wait for ctr");
    ctr.run(["pull", "-q", &name]).ok();
    assert_eq!(ranges(&faults, &image), [None, from(600_000)]);
    assert!(partials(&ctr).is_empty() && ctr.list("tmp").is_empty());
}

#[test]
fn what_a_cut_has_left_is_taken_up_also_from_a_mirror() {
    let (ctr, faults, image) = ground(User::Rootless, "resume/cut:latest");
    let name = faults.name("resume/cut");
    faults.spoil(&image.blobs[0], Fault::Cut(600_000), 1);
    ctr.run(["pull", "-q", "--retry=0", &name]).fails("600000 of");
    assert_eq!(partials(&ctr).get(&image.blobs[0]), Some(&600_000));
    let mirror = Faults::new(support::Registry::plain());
    let table = format!("[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n", mirror.address());
    ctr.registries(&format!("{}{table}", faults.conf()));
    ctr.run(["pull", "-q", &name]).ok();
    assert_eq!(ranges(&mirror, &image), [from(600_000)]);
    assert!(partials(&ctr).is_empty());
}

#[test]
fn a_damaged_part_is_thrown_away() {
    let (ctr, faults, image) = ground(User::Rootless, "resume/damaged:latest");
    let name = faults.name("resume/damaged");
    let place = ctr.data().join("blobs/partial").join(&image.blobs[0]["sha256:".len()..]);
    // One byte of a part; a hole in one, as a power cut leaves; of the right length, and of more.
    let damages: [(&str, u64, &[u8]); 4] = [
        ("byte", 300_000, b"x"),
        ("hole", 600_000, &[0; 4096]),
        ("whole", 0, &[7; 2_000_000]),
        ("tiny", 0, b"ab"),
    ];
    for (what, at, bytes) in damages {
        let before = ranges(&faults, &image).len();
        if at > 0 {
            faults.spoil(&image.blobs[0], Fault::Cut(600_000), 1);
            ctr.run(["pull", "-q", "--retry=0", &name]).fails("600000 of");
        }
        let mut file =
            fs::File::options().write(true).create(true).truncate(at == 0).open(&place).expect("the part");
        file.seek(SeekFrom::Start(at)).expect("seek");
        file.write_all(bytes).expect("damage it");
        if let Some((uid, gid)) = ctr.user().ids() {
            std::os::unix::fs::chown(&place, Some(uid), Some(gid)).expect("give it to the user");
        }
        ctr.run(["pull", "-q", "--retry=0", &name]).ok();
        assert_eq!(ranges(&faults, &image).last(), Some(&None), "{what}: fetched from the beginning");
        assert!(ranges(&faults, &image).len() - before <= 3, "{what}");
        assert!(partials(&ctr).is_empty(), "{what}");
        ctr.run(["rmi", &name]).ok();
    }
}

#[test]
fn what_is_whole_is_not_fetched_again() {
    let (ctr, faults, image) = ground(User::Rootless, "resume/whole:latest");
    let name = faults.name("resume/whole");
    let before = ctr.store();
    // The second layer never comes; the first is in the store before that is known, and no image needs it.
    faults.spoil(&image.blobs[1], Fault::Cut(600_000), 1).spoil(
        &image.blobs[1],
        Fault::status("503 Busy"),
        1,
    );
    ctr.run(["pull", "-q", "--retry=1", "--retry-delay=1200ms", &name]).fails("503");
    assert_eq!(without_partials(&ctr), before);
    let kept = partials(&ctr);
    assert!(kept[&image.blobs[0]] > 1_400_000 && kept[&image.blobs[1]] == 600_000, "{kept:?}");
    ctr.run(["pull", "-q", &name]).ok();
    assert_eq!(ranges(&faults, &image), [None]);
    ctr.run(["rmi", &name]).ok();
    assert_eq!(ctr.store(), before);
}

#[test]
fn pulls_side_by_side_fetch_a_blob_once() {
    for &user in User::all() {
        let (ctr, faults, image) = ground(user, "resume/both:latest");
        let name = faults.name("resume/both");
        let mut first = stalled(&ctr, &faults, &image, &name, 600_000);
        let mut others: Vec<_> = (0..2).map(|_| start(&ctr, &name)).collect();
        faults.wait_asked("GET", &image.config, 3);
        faults.release();
        for child in others.iter_mut().chain([&mut first]) {
            assert!(child.wait().expect("wait for ctr").success(), "as {user:?}");
        }
        assert_eq!(ranges(&faults, &image), [None, from(600_000)], "as {user:?}");
        assert_eq!(faults.asked("GET", &image.blobs[1]).len(), 1, "as {user:?}");
        assert!(partials(&ctr).is_empty() && ctr.list("tmp").is_empty(), "as {user:?}");
    }
}

#[test]
fn who_waits_goes_on_when_the_receiver_dies() {
    let (ctr, faults, image) = ground(User::Rootless, "resume/heir:latest");
    let name = faults.name("resume/heir");
    let mut first = stalled(&ctr, &faults, &image, &name, 600_000);
    let mut second = start(&ctr, &name);
    faults.wait_asked("GET", &image.config, 2);
    first.kill().expect("kill ctr");
    first.wait().expect("wait for ctr");
    assert!(second.wait().expect("wait for ctr").success());
    assert_eq!(ranges(&faults, &image), [None, from(600_000)]);
}

#[test]
fn a_part_is_kept_for_a_day() {
    let (ctr, faults, image) = ground(User::Rootless, "resume/day:latest");
    let before = ctr.store();
    faults.spoil(&image.blobs[0], Fault::Cut(600_000), 9);
    let name = faults.name("resume/day");
    ctr.run(["pull", "-q", "--retry=0", &name]).exits(125);
    let collect = || ctr.run(["rmi", "-i", "nobody/has:this"]).ok();
    collect();
    assert_eq!(partials(&ctr).get(&image.blobs[0]), Some(&600_000));
    for blob in partials(&ctr).keys() {
        let path = ctr.data().join("blobs/partial").join(&blob["sha256:".len()..]);
        let file = fs::File::options().write(true).open(path).expect("the part");
        file.set_modified(SystemTime::now() - Duration::from_secs(25 * 60 * 60)).expect("make it old");
    }
    collect();
    assert_eq!(ctr.store(), before);
}

/// Nothing can be made of the others when the registry can't give the whole image.
#[test]
fn an_image_that_is_broken_leaves_no_part() {
    let (ctr, faults, image) = ground(User::Rootless, "resume/broken:latest");
    let before = ctr.store();
    faults.spoil(&image.blobs[0], Fault::Corrupt, 9);
    ctr.run(["pull", "-q", &faults.name("resume/broken")]).fails("sha256:");
    assert_eq!(ctr.store(), before);
}
