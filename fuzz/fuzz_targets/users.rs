//! /etc/passwd and /etc/group of an image, apart by the first NUL; the first line of all is who is looked for.
#![no_main]

use ctr::container::users::{GROUPS_LIMIT, UserSpec, group_name, resolve, user_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (who, files) = text.split_once('\n').unwrap_or((text, ""));
    let (passwd, group) = files.split_once('\0').unwrap_or((files, ""));
    let Ok(user) = who.parse::<UserSpec>() else { return };
    assert_eq!(user.to_string().parse::<UserSpec>().expect("its own words"), user);
    let Ok(identity) = resolve(passwd, group, &user, &[]) else { return };
    assert!(identity.uid != u32::MAX && identity.gid != u32::MAX);
    assert!(identity.groups.len() <= GROUPS_LIMIT && identity.groups.first() == Some(&identity.gid));
    assert!(identity.home.starts_with('/') && !identity.home.chars().any(char::is_control));
    let _ = (user_name(passwd, identity.uid), group_name(group, identity.gid));
});
