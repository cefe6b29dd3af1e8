//! /etc/subuid: whatever it says, the map begins with the user's own id and no id is in it twice.
#![no_main]

use ctr::namespaces::subid::Owner;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let map = Owner::current().parse(text, 1000);
    assert!((1..=340).contains(&map.len()));
    assert_eq!((map[0].inside, map[0].host, map[0].count), (0, 1000, 1));
    let apart = |a: (u32, u32), b: (u32, u32)| {
        u64::from(a.0) + u64::from(a.1) <= b.0.into() || u64::from(b.0) + u64::from(b.1) <= a.0.into()
    };
    for (n, a) in map.iter().enumerate() {
        for b in &map[..n] {
            assert!(apart((a.host, a.count), (b.host, b.count)) && apart((a.inside, a.count), (b.inside, b.count)));
        }
    }
});
