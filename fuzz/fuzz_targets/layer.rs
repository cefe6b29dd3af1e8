//! The layer unpacker: whatever the archive says, nothing outside the store changes and no draft is left. The first byte
//! chooses the compression that it is said to have.
#![no_main]

use ctr::storage::{Compression, Digest, Dirs, Expected, Store};
use libfuzzer_sys::fuzz_target;
use std::{fs, path::Path};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, archive)) = bytes.split_first() else { return };
    let compression = [Compression::None, Compression::Gzip, Compression::Zstd][usize::from(first % 3)];
    let home = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).expect("a home");
    let below = |name: &str| home.path().join(name);
    fs::create_dir(below("outside")).expect("make a directory");
    fs::write(below("outside/canary"), "alive").expect("write the canary");
    let dirs = Dirs { data: below("data"), runtime: below("run"), config: below("config"), cache: below("cache") };
    let store = Store::open(dirs).expect("open the store");
    // No digest is known before: what is compressed gets to its end, too.
    let expected = Expected { blob: None, size: None, bounded: true, compression, diff_id: None };
    let unpacked = store.receive(expected).and_then(|mut ingest| {
        archive.chunks(777).try_for_each(|chunk| ingest.push(chunk.to_vec()))?;
        let draft = ingest.settle()?;
        let diff_id = draft.diff_id;
        draft.publish()?;
        Ok(diff_id)
    });
    if let Ok(diff_id) = &unpacked {
        assert!(store.has_layer(diff_id));
        assert!(compression != Compression::None || *diff_id == Digest::of(archive));
    }
    let left = |dir: &str| fs::read_dir(below(dir)).map_or(0, Iterator::count);
    assert_eq!(left("data/tmp"), 0, "a draft is left: {unpacked:?}");
    assert_eq!((left(""), left("outside")), (home_entries(&below("")), 1));
    assert_eq!(fs::read(below("outside/canary")).expect("read the canary"), b"alive");
});

/// The directories that we and the store make ourselves.
fn home_entries(home: &Path) -> usize {
    ["outside", "data", "run", "config", "cache"].iter().filter(|name| home.join(name).exists()).count()
}
