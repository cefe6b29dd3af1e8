//! `--uidmap`, `--userns` and the ids that come of them: whatever is asked for, nobody gets an id twice, and none that the user
//! doesn't have.
#![no_main]

use ctr::{
    container::userns::{self, Userns},
    namespaces::{
        idmap::{self, Entry},
        user::IdRange,
    },
};
use libfuzzer_sys::fuzz_target;

/// As user 1000 with two ranges of subordinate ids.
fn own() -> Vec<IdRange> {
    let range = |inside, host, count| IdRange { inside, host, count };
    vec![range(0, 1000, 1), range(1, 100_000, 65536), range(65537, 4_000_000_000, 1000)]
}

fn is_sound(map: &[IdRange]) {
    let own = own();
    for (at, range) in map.iter().enumerate() {
        assert!(range.count > 0);
        let end = |first: u32| u64::from(first) + u64::from(range.count);
        assert!(end(range.inside) <= u64::from(u32::MAX), "{map:?}");
        let mut host = u64::from(range.host);
        while host < end(range.host) {
            let of = own.iter().find(|o| host >= o.host.into() && host < u64::from(o.host) + u64::from(o.count));
            host = of.map(|o| u64::from(o.host) + u64::from(o.count)).unwrap_or_else(|| panic!("{host} is nobody's: {map:?}"));
        }
        for other in &map[..at] {
            let apart = |a: u32, b: u32| end(a) <= b.into() || u64::from(b) + u64::from(other.count) <= a.into();
            assert!(apart(range.inside, other.inside) && apart(range.host, other.host), "{map:?}");
        }
    }
}

fuzz_target!(|text: &str| {
    let entries: Result<Vec<Entry>, _> = text.split(' ').map(str::parse).collect();
    if let Ok(entries) = entries
        && let Ok(map) = idmap::apply(&entries, &own())
    {
        is_sound(&map);
        if let Ok(allocated) = idmap::allocate(&own(), &own()[..1], 2000, &map) {
            is_sound(&allocated);
        }
    }
    match userns::parse(text) {
        Ok(Userns::KeepId { uid, size, .. }) => is_sound(&idmap::keep(&own(), uid.unwrap_or(1000), size)),
        Ok(Userns::Path(path)) => assert!(path.is_absolute()),
        Ok(Userns::Container(name)) => assert!(!name.is_empty()),
        _ => {}
    }
});
