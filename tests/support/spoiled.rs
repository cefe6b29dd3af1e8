//! The ground of pulls that are to fail.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Compression, Ctr, Fault, Faults, Layer, Outcome, Pushed, Registry, TestImage, User};

/// An image manifest of the OCI.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Bytes that don't compress, so that a cut after N bytes of the blob is in the middle of it.
pub fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(step).collect()
}

/// A two-layer image of about 3 MB behind a proxy, and a `ctr` that already holds another image.
pub fn ground(user: User, target: &str) -> (Ctr, Faults, Pushed) {
    let registry = Registry::plain();
    let part =
        |seed: u32| Layer::new(Compression::Gzip).file(&format!("noise{seed}"), noise(seed, 1_500_000));
    let image = TestImage::new([part(1), part(2)]).push(registry, target);
    TestImage::new([Layer::new(Compression::Gzip).file("kept", "kept")]).push(registry, "bad/kept:latest");
    let faults = Faults::new(registry);
    let ctr = Ctr::new(user);
    ctr.registries(&faults.conf());
    ctr.run(["pull", "-q", &faults.name("bad/kept")]).ok();
    (ctr, faults, image)
}

/// The pull fails with `about` in its error and leaves the store as it was, but for what a next one can go on with.
#[track_caller]
pub fn refused(ctr: &Ctr, name: &str, about: &str) -> Outcome {
    let before = without_partials(ctr);
    let outcome = ctr.run(["pull", "-q", name]).fails(about);
    assert_eq!(without_partials(ctr), before, "the store changed, {outcome}");
    outcome
}

/// The store, but for blobs of which a part has come.
pub fn without_partials(ctr: &Ctr) -> BTreeMap<PathBuf, String> {
    let mut store = ctr.store();
    store.retain(|path, _| path.parent() != Some(Path::new("blobs/partial")));
    store
}

/// Bytes of each blob of which a part has come.
pub fn partials(ctr: &Ctr) -> BTreeMap<String, u64> {
    let names = ctr.list("blobs/partial").into_iter();
    let length =
        |name: &str| fs::metadata(ctr.data().join("blobs/partial").join(name)).expect("a partial blob").len();
    names.map(|name| (format!("sha256:{name}"), length(&name))).collect()
}

/// The same for each kind of user, with a blob or manifest that is always spoiled the same way.
#[track_caller]
pub fn spoiled(target: &str, path: impl Fn(&Pushed) -> String, fault: Fault, about: &str) {
    for &user in User::all() {
        let (ctr, faults, image) = ground(user, target);
        faults.spoil(&path(&image), fault.clone(), usize::MAX);
        refused(&ctr, &faults.name(target), about);
        assert!(faults.seen().len() < 60, "{} requests: it gives up", faults.seen().len());
    }
}

/// The path of its first blob.
pub fn first_blob(image: &Pushed) -> String {
    image.blobs[0].clone()
}

/// The path of every manifest of [`ground`].
pub fn manifest(_: &Pushed) -> String {
    "/bad/".to_owned()
}
