//! Rows 11 and 12: archives that want out of their layer, and archives that two readers understand differently.

use crate::{
    layer,
    support::{Ctr, Layer, Registry, TestImage, User},
};

#[test]
fn layers_that_climb_out() {
    let canary = tempfile::tempdir_in("/var/tmp").expect("a directory outside");
    let outside = canary.path().display().to_string();
    std::fs::set_permissions(canary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("chmod");
    let new = layer;
    let up = format!("{}{}", "../".repeat(20), outside.trim_start_matches('/'));
    let attempts: Vec<(&str, Layer)> = vec![
        ("dot-dot", new().file(&format!("{up}/a"), "out")),
        ("dot-dot below a directory", new().dir("d", 0o755).file(&format!("d/{up}/b"), "out")),
        ("a symlink", new().symlink("s", &outside).file("s/c", "out")),
        ("a relative symlink", new().symlink("r", &up).file("r/d", "out")),
        ("a hard link", new().hardlink("h", "/etc/passwd")),
        ("a hard link upwards", new().hardlink("h2", &format!("{}etc/passwd", "../".repeat(20)))),
        ("a hard link through a symlink", new().symlink("e", "/etc").hardlink("h3", "e/passwd")),
        ("a whiteout through a symlink", new().symlink("w", &outside).file("w/.wh.victim", "")),
        ("the root as a symlink", new().symlink(".", &outside).file("f", "out")),
        ("a whiteout of the parent", new().file(".wh...", "").file(".wh.", "").file(".wh..", "")),
    ];
    std::fs::write(canary.path().join("victim"), "alive").expect("write a canary");
    for (number, (what, layer)) in attempts.into_iter().enumerate() {
        let target = format!("climb/n{number}:latest");
        TestImage::new([layer]).push(Registry::plain(), &target);
        for &user in User::all() {
            let ctr = Ctr::new(user);
            ctr.registries(&Registry::plain().as_docker_hub());
            // Both a refusal and a pull that keeps it inside the layer are right; a file outside never is.
            let outcome = ctr.run(["pull", "-q", &Registry::plain().name(&target)]);
            assert!(matches!(outcome.code(), 0 | 125), "{what}: {outcome}");
            let mut left = std::fs::read_dir(canary.path()).expect("list the canary");
            assert!(
                left.next().is_some_and(|e| e.is_ok_and(|e| e.file_name() == "victim")),
                "{what}: {outcome}"
            );
            assert!(left.next().is_none(), "{what}: {outcome}");
            let passwd = std::fs::metadata("/etc/passwd").expect("stat /etc/passwd");
            assert_eq!(std::os::unix::fs::MetadataExt::nlink(&passwd), 1, "{what}: {outcome}");
        }
    }
}

/// GNU tar and Go disagree about what such an entry is: one of them would be shown another image than runs.
#[test]
fn entries_that_readers_understand_differently() {
    let long = "x".repeat(120);
    let attempts: Vec<(&str, Layer)> = vec![
        ("two names", layer().pax(&[("path", b"other")]).file(&long, "x")),
        ("two targets", layer().pax(&[("linkpath", b"other")]).symlink("a", &long)),
        ("a name with NUL", layer().pax(&[("path", b"a\0b")]).file("a", "x")),
        ("a size that is none", layer().pax(&[("size", b"0x10")]).file("a", "x")),
        ("a file longer than the archive", layer().pax(&[("size", b"999999999")]).file("a", "x")),
        ("a directory with data", layer().pax(&[("size", b"512")]).dir("a", 0o755)),
    ];
    for (number, (what, layer)) in attempts.into_iter().enumerate() {
        let target = format!("readers/n{number}:latest");
        TestImage::new([layer]).push(Registry::plain(), &target);
        let ctr = Ctr::new(User::Rootless).with_hub();
        let outcome = ctr.run(["pull", "-q", &Registry::plain().name(&target)]).exits(125);
        assert!(ctr.list("layers").is_empty() && ctr.list("tmp").is_empty(), "{what}: {outcome}");
    }
}
