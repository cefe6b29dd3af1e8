//! Archives that want out of their directory, or more than their share.

use super::ground::{Archive, Ground, is_root};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

#[test]
fn nothing_climbs_out() {
    if !is_root() {
        return;
    }
    let probe = Ground::new();
    let canary = probe.temp.path().join("canary").to_str().unwrap().to_owned();
    let new = Archive::default;
    // The path by which the canary is reached from each ground is not known to the archive: `..` and the absolute path.
    let archives: &[(&str, Archive, bool)] = &[
        ("dotdot", new().file("../canary/file", "x"), false),
        ("inner dotdot", new().dir("a").file("a/../../canary/file", "x"), false),
        ("absolute", new().file("/canary/file", "x"), true),
        ("absolute dotdot", new().file("/../canary/file", "x"), false),
        ("symlink parent", new().symlink("a", "../canary").file("a/file", "x"), true),
        ("absolute symlink parent", new().symlink("a", &canary).file("a/file", "x"), true),
        ("symlink chain", new().symlink("a", "b").symlink("b", "../canary").file("a/file", "x"), true),
        ("symlink loop", new().symlink("a", "b").symlink("b", "a").file("a/file", "x"), false),
        ("through dangling links", new().symlink("a", "x/../../../canary").file("a/file", "x"), true),
        ("write through a link", new().symlink("a", "../canary/file").file("a", "x"), true),
        ("mkdir through a link", new().symlink("a", "../canary").dir("a").file("a/file", "x"), true),
        ("chmod through a link", new().symlink("a", "../canary/file").owned("a", b'0', 0, 0o777), true),
        (
            "chmod of a directory through a link",
            new().symlink("a", "../canary").owned("a", b'5', 0, 0o777),
            true,
        ),
        ("hard link dotdot", new().hard_link("a", "../canary/file").file("a", "x"), false),
        ("hard link absolute", new().hard_link("a", &format!("{canary}/file")), false),
        ("hard link through a parent", new().symlink("a", "../canary").hard_link("b", "a/file"), false),
        (
            "hard link to a link",
            new().symlink("a", "../canary/file").hard_link("b", "a").file("b", "x"),
            true,
        ),
        ("hard link to a directory", new().dir("a").hard_link("b", "a"), false),
        ("root as a link", new().symlink(".", "../canary").file("file", "x"), false),
        ("root as a file", new().file("./", "x"), false),
        ("root removed", new().hard_link("", "../canary/file"), false),
        ("whiteout dotdot", new().file("../canary/.wh.file", ""), false),
        ("whiteout through a link", new().symlink("a", "../canary").file("a/.wh.file", ""), true),
        ("opaque through a link", new().symlink("a", "../canary").file("a/.wh..wh..opq", ""), true),
        ("whiteout of dotdot", new().dir("a").file("a/.wh...", ""), false),
        ("whiteout of nothing", new().dir("a").file("a/.wh.", ""), false),
        ("replace a tree with links", new().dir("a").symlink("a/l", "../../canary").file("a", "x"), true),
        ("pax path", new().pax(&[("path", b"../canary/file")]).file("a", "x"), false),
        ("pax path with NUL", new().pax(&[("path", b"a\0b")]).file("a", "x"), false),
        ("pax linkpath", new().pax(&[("linkpath", b"../canary/file")]).hard_link("a", "b"), false),
        ("GNU long name", new().add("", b'L', "", b"../canary/file\0", |_| {}).file("a", "x"), false),
        ("proc", new().symlink("a", "/proc/self/cwd").file("a/file", "x"), true),
        ("file as a parent", new().file("a", "x").file("a/b", "x"), false),
        ("device through a link", new().symlink("a", "../canary/file").owned("a", b'3', 0, 0o666), true),
    ];
    for (what, archive, good) in archives {
        let ground = Ground::new();
        let outcome = ground.unpack(&archive.0);
        assert_eq!(outcome.is_ok(), *good, "{what}: {:?}", outcome.err().map(|e| format!("{e:#}")));
        ground.assert_unharmed(what);
        probe.assert_unharmed(what);
    }
}

#[test]
fn links_lead_where_they_will_in_the_container() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let archive = Archive::default()
        .dir("usr/bin")
        .symlink("bin", "usr/bin")
        .file("bin/a", "a")
        .symlink("var/run", "/run")
        .file("var/run/lock/b", "b")
        .symlink("up", "../../../usr/bin")
        .file("up/c", "c")
        .hard_link("d", "bin/a");
    ground.unpack(&archive.0).unwrap();
    assert_eq!(
        ["usr/bin/a", "run/lock/b", "usr/bin/c", "d"].map(|name| ground.read(name)),
        ["a", "b", "c", "a"]
    );
    assert!(fs::symlink_metadata(ground.path("bin")).unwrap().is_symlink());
}

#[test]
fn later_entries_replace_earlier_ones() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let archive = Archive::default()
        .file("a", "long contents")
        .hard_link("a2", "a")
        .file("a", "b")
        .dir("dir")
        .dir("dir/sub")
        .file("dir/sub/file", "x")
        .file("dir", "now a file")
        .symlink("link", "usr")
        .dir("usr")
        .dir("link")
        .file("link/file", "y")
        .file("kept/file", "z")
        .owned("kept", b'5', 0, 0o700)
        .hard_link("kept/file", "kept/file");
    ground.unpack(&archive.0).unwrap();
    assert_eq!(
        ["a", "a2", "dir", "link/file"].map(|name| ground.read(name)),
        ["b", "long contents", "now a file", "y"]
    );
    assert!(!ground.path("usr/file").exists());
    assert_eq!(ground.read("kept/file"), "z");
    let mode = |name: &str| fs::metadata(ground.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("kept"), mode("")), (0o700, 0o755));
    assert_eq!(fs::metadata(ground.path("dir")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::metadata(ground.path("usr")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn bombs_end_in_an_error() {
    if !is_root() {
        return;
    }
    let holes = |size: &[u8]| {
        let sparse: &[(&str, &[u8])] =
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", size)];
        let mut map = b"0\n".to_vec();
        map.resize(512, 0);
        Archive::default().pax(sparse).add("a", b'0', "", &map, |_| {})
    };
    for (archive, message) in [
        (holes(b"2199023255552"), "holes"),
        (holes(b"18446744073709551615"), "beyond"),
        (Archive::default().add("a", b'L', "", b"", |header| header.set_size(1 << 33)), "larger than"),
        (Archive::default().add("a", b'x', "", b"", |header| header.set_size(1 << 33)), "larger than"),
        (Archive::default().add("a", b'0', "", b"", |header| header.set_size(1 << 60)), "ends within"),
        (Archive::default().add("a", b'L', "", &[b'a'; 5000], |_| {}).file("a", ""), "longer than"),
    ] {
        let ground = Ground::new();
        let error = format!("{:#}", ground.unpack(&archive.0).unwrap_err());
        assert!(error.contains(message), "{error}");
    }
    // As many directories as a path can have, entered by links that double the depth: no descriptor is left behind.
    let mut archive = Archive::default();
    let deep = "d/".repeat(2000);
    for _ in 0..3 {
        archive = archive.add("", b'L', "", deep.as_bytes(), |_| {}).dir("x");
        archive =
            archive.add("", b'K', "", deep.as_bytes(), |_| {}).symlink("link", "x").file("link/e/f", "x");
    }
    let ground = Ground::new();
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    ground.unpack(&archive.0).unwrap();
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < before + 64);
    ctr::storage::delete_tree(&ground.path("d")).unwrap();
}

proptest::proptest! {
    /// Whatever the bytes are: an answer, and nobody is harmed.
    #[test]
    fn noise(flips in proptest::collection::vec((0usize..6000, 0u8..=255), 0..12), fix in proptest::bool::ANY) {
        if is_root() {
            let mut archive = Archive::default()
                .dir("a").file("a/b", "contents").symlink("l", "a").hard_link("h", "a/b").file("a/.wh.x", "")
                .pax(&[("path", b"p"), ("GNU.sparse.map", b"0,1,4,1"), ("GNU.sparse.size", b"9")]).file("s", "12").0;
            for (at, byte) in flips {
                if let Some(target) = archive.get_mut(at) { *target = byte; }
            }
            if fix {
                for block in archive.as_chunks_mut::<512>().0 {
                    let header = tar::Header::from_byte_slice(block);
                    if header.as_gnu().is_some() {
                        let mut header = header.clone();
                        header.set_cksum();
                        *block = *header.as_bytes();
                    }
                }
            }
            let ground = Ground::new();
            let _ = ground.unpack(&archive);
            ground.assert_unharmed("noise");
        }
    }
}
