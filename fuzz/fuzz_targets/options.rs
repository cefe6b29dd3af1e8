//! The values of options, each by its own grammar; the first byte chooses it.
#![no_main]

use ctr::{
    container::{devices, etc_files, grammar, health, limits, signal::Signal, sysctl, tmpfs, users::Who},
    registry::Platform,
    storage::{ContainerId, Digest, Name},
};
use libfuzzer_sys::fuzz_target;
use std::path::Component;

fuzz_target!(|text: &str| {
    let Some((which, text)) = text.split_at_checked(1) else { return };
    match which.as_bytes()[0] % 16 {
        0 => {
            if let Ok(tmpfs) = tmpfs::parse(text) {
                assert!(tmpfs.target.is_absolute());
                assert!(!tmpfs.target.components().any(|part| matches!(part, Component::ParentDir)), "{tmpfs:?}");
            }
        }
        1 => drop(devices::parse(text)),
        2 => drop(etc_files::parse_add_host(text)),
        3 => drop(etc_files::parse_dns(&[text.to_owned()])),
        4 => drop(limits::parse_ulimit(text)),
        5 => drop(limits::parse_size(text)),
        6 => {
            if let Ok((key, _)) = sysctl::parse(text, true, true) {
                assert!(!key.contains("..") && !key.starts_with('/'), "{key:?}");
            }
        }
        7 => drop(grammar::parse_security_option(text)),
        8 => drop(grammar::parse_hostname(text)),
        9 => drop(grammar::parse_label(text)),
        10 => drop((grammar::parse_restart(text), grammar::parse_network(text), grammar::parse_mode(text, 0o7777))),
        11 => drop(health::parse_duration(text)),
        12 => drop(text.parse::<Signal>()),
        13 => drop((text.parse::<Who>(), text.parse::<Platform>())),
        14 => {
            for name in [text.parse::<Name>().map(|n| n.to_string()), text.parse::<ContainerId>().map(|n| n.to_string())] {
                assert!(name.is_err() || !text.contains('/') && text != "." && text != "..", "{text:?} is a file's name");
            }
        }
        _ => drop(text.parse::<Digest>()),
    }
});
