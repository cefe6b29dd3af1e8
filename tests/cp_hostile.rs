//! Copies while the container, or the archive, is hostile: nothing leaves the root, nothing of the host comes in.

mod support;

use std::{fs, io::Read, os::unix::fs::MetadataExt, path::Path, process::Stdio};
use support::{Subject, User, feed};

#[test]
fn hostile_archives() {
    for subject in Subject::all(&[], "true") {
        let what = subject.what();
        let entry = |kind: u8, name: &str, target: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let send = |entries: &[Vec<u8>]| {
            feed(subject.ctr.command(["cp", "-", "c:/tmp"]), &[entries.concat(), vec![0; 1024]].concat())
        };
        send(&[entry(b'0', "../x", "")]).fails("climbs out");
        send(&[entry(b'0', "a/../../../x", "")]).fails("climbs out");
        send(&[entry(b'1', "a", "../etc/passwd")]).fails("climbs out");
        send(&[entry(b'0', "good", ""), entry(b'Z', "x", "")]).fails("unknown type");
        // A link of the stream and a file through it: it stays in the container.
        let marker = format!("{}/marker", subject.ctr.home().display());
        send(&[entry(b'2', "l", &marker[..marker.len() - 7]), entry(b'0', "l/marker", "")]).exits(125);
        assert!(!Path::new(&marker).exists(), "{what}");
        if subject.ctr.user() != User::Root {
            send(&[entry(b'3', "null", "")]).fails("make \"null\"");
        }
    }
}

/// Whoever is inside has nothing of the host, and nobody inside could name it.
#[test]
fn the_process_inside_holds_nothing_of_the_host() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    for subject in Subject::all(&[], "true") {
        let what = subject.what();
        let mut command = subject.ctr.command(["cp", "c:/bin/busybox", "-"]);
        let leak = fs::File::open(subject.ctr.home()).expect("open the home");
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).expect("let it be inherited");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start ctr");
        // Its first byte is there, the rest doesn't fit in the pipe: the process inside stands still.
        child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("the stream");
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let children = fs::read_to_string(children).expect("list children");
        let [inside] = children.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{children} {what}")
        };
        let mut open = Vec::new();
        for entry in fs::read_dir(format!("/proc/{inside}/fd")).expect("list descriptors") {
            let link = fs::read_link(entry.expect("a descriptor").path()).expect("read a link");
            open.push(link.display().to_string());
        }
        open.retain(|link| !link.starts_with("pipe:") && link != "/dev/null");
        open.sort();
        assert_eq!(open, ["/", "/bin/busybox"], "{what}");
        let status = fs::read_to_string(format!("/proc/{inside}/status")).expect("read its status");
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned()
        };
        // CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID MKNOD SETFCAP
        assert_eq!(
            (field("CapEff:"), field("NoNewPrivs:")),
            ("000000008800001f".to_owned(), "1".to_owned()),
            "{what}"
        );
        assert_eq!(fs::metadata(format!("/proc/{inside}/mem")).expect("look at it").uid(), 0, "{what}");
        let peak: u64 = field("VmHWM:").trim_end_matches(" kB").parse().expect("a number");
        assert!(peak < 32 << 10, "{peak} kB, {what}");
        child.kill().expect("kill ctr");
        child.wait().expect("wait for ctr");
        support::wait_gone(inside.parse().expect("a number"));
    }
}
