//! What a user mounts: `--volume`, `--mount`, `--volumes-from`, `--secret`, CDI specifications; the first byte chooses.
#![no_main]

use ctr::{
    container::{
        cdi, mount_option::{self, MountOption}, secrets::{self, Form},
        user_mount::{Source, UserMount, parse_idmap, parse_subpath, parse_target},
        volume_option,
    },
    storage::VolumeName,
};
use libfuzzer_sys::fuzz_target;
use std::path::{Component, Path};

fn is_clean(path: &Path) -> bool {
    path.is_absolute() && path != Path::new("/") && path.components().all(|part| !matches!(part, Component::ParentDir))
}

fn is_sound(mount: &UserMount) {
    assert!(is_clean(&mount.target), "{mount:?}");
    if let Source::Volume { name: Some(name), .. } = &mount.source {
        assert!(!name.as_str().contains('/') && !name.as_str().starts_with('.'), "{mount:?}");
    }
    if let Source::Volume { subpath: Some(path), .. } | Source::Image { subpath: Some(path), .. } = &mount.source {
        assert!(is_clean(&Path::new("/").join(path)) && path.is_relative(), "{mount:?}");
    }
}

fuzz_target!(|text: &str| {
    let Some((which, text)) = text.split_at_checked(1) else { return };
    match which.as_bytes()[0] % 8 {
        0 | 1 => {
            if let Ok(mount) = volume_option::parse(text) {
                is_sound(&mount);
            }
        }
        2 | 3 => match mount_option::parse(text) {
            Ok(MountOption::Mount(mount)) => is_sound(&mount),
            Ok(MountOption::Tmpfs(tmpfs)) => assert!(is_clean(&tmpfs.target), "{tmpfs:?}"),
            Ok(MountOption::Glob { target: Some(target), .. }) => assert!(is_clean(&target), "{target:?}"),
            _ => {}
        },
        4 => drop((volume_option::parse_from(text), volume_option::parse_image_volumes(text), parse_idmap(text))),
        5 => {
            if let Ok(given) = secrets::parse(text) {
                assert!(!given.name.contains('/'), "{given:?}");
                if let Form::Mount { target, .. } = given.form {
                    assert!(is_clean(&target), "{target:?}");
                }
            }
        }
        6 => {
            drop((parse_target(text), parse_subpath(text), text.parse::<VolumeName>()));
            let _ = cdi::parse(text);
        }
        _ => drop(cdi::edits(text, "v.com/c", "n")),
    }
});
