//! Layers into the store: what arrives is verified and appears whole, what fails leaves the store as it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ctr::storage::{Compression, Digest, Dirs, Image, LayerSource, Store};
use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

struct Ground {
    _temp: TempDir,
    store: Store,
}

impl Ground {
    fn new() -> Ground {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let dirs = Dirs { data: at("data"), runtime: at("run"), config: at("config"), cache: at("cache") };
        let store = Store::open(dirs).unwrap();
        Ground { _temp: temp, store }
    }

    fn ingest(&self, source: &LayerSource, blob: &[u8]) -> anyhow::Result<()> {
        let mut ingest = self.store.ingest(source.clone())?;
        for chunk in blob.chunks(1000) {
            ingest.push(chunk.to_vec())?;
        }
        ingest.finish()
    }

    fn everything(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![self.store.dirs().data.clone()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path.clone());
                }
                found.insert(path);
            }
        }
        found
    }
}

/// A layer of a few files, more than the buffers between the threads hold.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for n in 0..20 {
        let contents: Vec<u8> =
            (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ n).collect();
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        builder.append_data(&mut header, format!("dir/file-{n}"), contents.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn source(blob: &[u8], compression: Compression, plain: &[u8]) -> LayerSource {
    LayerSource { blob: Digest::of(blob), size: blob.len() as u64, compression, diff_id: Digest::of(plain) }
}

#[test]
fn a_layer_of_each_compression() {
    let plain = archive();
    for (compression, blob) in [
        (Compression::None, plain.clone()),
        (Compression::Gzip, [gzip(&plain[..100_000]), gzip(&plain[100_000..])].concat()),
        (Compression::Zstd, zstd::encode_all(plain.as_slice(), 1).unwrap()),
    ] {
        let ground = Ground::new();
        let source = source(&blob, compression, &plain);
        ground.ingest(&source, &blob).unwrap();
        assert!(ground.store.has_layer(&source.diff_id) && ground.store.has_blob(&source.blob));
        assert_eq!(ground.store.layer_size(&source.diff_id).unwrap(), 4_000_000);
        assert_eq!(
            fs::read(ground.store.layer_path(&source.diff_id).join("dir/file-0")).unwrap().len(),
            200_000
        );
        assert_eq!(ground.store.read_blob(&source.blob, u64::MAX).unwrap(), blob);
        let once = ground.everything();
        // Somebody else was faster.
        ground.ingest(&source, &blob).unwrap();
        assert_eq!(ground.everything(), once);
    }
}

#[test]
fn a_layer_that_lies_leaves_the_store_as_it_was() {
    let plain = archive();
    let blob = gzip(&plain);
    let honest = source(&blob, Compression::Gzip, &plain);
    let mut damaged = blob.clone();
    damaged[blob.len() / 2] ^= 0x10;
    let bomb = zstd::encode_all(std::io::repeat(0).take(3 << 29), 1).unwrap();
    let other = Digest::of(b"other");
    let cases = [
        (honest.clone(), blob[..blob.len() / 2].to_vec(), "ended after"),
        (honest.clone(), Vec::new(), "ended after 0 of"),
        (honest.clone(), [&blob[..], b"more"].concat(), "larger than"),
        (honest.clone(), damaged, "is damaged"),
        (LayerSource { blob: other, ..honest.clone() }, blob.clone(), "is damaged"),
        (LayerSource { diff_id: other, ..honest.clone() }, blob.clone(), "diff id"),
        (LayerSource { compression: Compression::Zstd, ..honest.clone() }, blob.clone(), "decompress"),
        (LayerSource { compression: Compression::None, ..honest.clone() }, blob.clone(), "not a tar archive"),
        (source(&bomb, Compression::Zstd, b""), bomb.clone(), "unpacks to more than"),
    ];
    for (source, blob, message) in cases {
        let ground = Ground::new();
        let before = ground.everything();
        let error = format!("{:#}", ground.ingest(&source, &blob).unwrap_err());
        assert!(error.contains(message), "{message}: {error}");
        assert_eq!(ground.everything(), before, "{message}");
    }
}

#[test]
fn dropped_halfway_it_leaves_nothing() {
    let plain = archive();
    let ground = Ground::new();
    let before = ground.everything();
    let mut ingest = ground.store.ingest(source(&plain, Compression::None, &plain)).unwrap();
    ingest.push(plain[..plain.len() / 2].to_vec()).unwrap();
    assert!(ground.store.collect_garbage().unwrap().busy, "a layer on its way is not garbage");
    drop(ingest);
    assert_eq!(ground.everything(), before);
}

#[test]
fn published_untagged_and_collected() {
    let plain = archive();
    let ground = Ground::new();
    let empty = ground.everything();
    let source = source(&plain, Compression::None, &plain);
    ground.ingest(&source, &plain).unwrap();
    let config = ground.store.put_blob(b"{}").unwrap();
    let image = Image {
        reference: "docker.io/library/ubuntu:latest".into(),
        manifest: config,
        index: None,
        config,
        layers: vec![source.diff_id],
        blobs: vec![source.blob],
        size: 4_000_000,
        platform: "linux/amd64".into(),
        pulled: jiff::Timestamp::UNIX_EPOCH,
        created: None,
        former: vec![],
    };
    ground.store.publish_image(&image).unwrap();
    assert_eq!(ground.store.collect_garbage().unwrap().layers, 0);
    assert!(ground.store.forget(&image.config, &[&image.reference]).unwrap());
    let freed = ground.store.collect_garbage().unwrap();
    assert_eq!((freed.layers, freed.blobs, freed.bytes), (1, 2, 4_000_002 + plain.len() as u64));
    assert_eq!(ground.everything(), empty);
}

/// A file system of its own, smaller than the layer: needs root and leaves by itself with its mount namespace.
#[test]
fn a_full_disk_gets_a_hint() {
    const INSIDE: &str = "CTR_TEST_FULL_DISK";
    let Some(small) = std::env::var_os(INSIDE) else {
        let temp = tempfile::tempdir().unwrap();
        let script = r#"mount -t tmpfs -o size=2m tmpfs "$1" && exec "$2" --exact a_full_disk_gets_a_hint --nocapture"#;
        let output = std::process::Command::new("unshare")
            .args(["-Urm", "sh", "-c", script, "sh"])
            .args([temp.path(), std::env::current_exe().unwrap().as_path()])
            .env(INSIDE, temp.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    };
    let at = |name: &str| Path::new(&small).join(name);
    let dirs = Dirs { data: at("data"), runtime: at("run"), config: at("config"), cache: at("cache") };
    let plain = archive();
    let blob = gzip(&plain);
    for (compression, blob) in [(Compression::None, &plain), (Compression::Gzip, &blob)] {
        let store = Store::open(dirs.clone()).unwrap();
        let mut ingest = store.ingest(source(blob, compression, &plain)).unwrap();
        let pushed = blob.chunks(1000).try_for_each(|chunk| ingest.push(chunk.to_vec()));
        let error = pushed.and_then(|()| ingest.finish()).unwrap_err();
        assert!(format!("{error:#}").contains("No space left"), "{error:#}");
        assert!(ctr::error::hint(&error).unwrap().contains("df -h"));
        assert_eq!(fs::read_dir(at("data/tmp")).unwrap().count(), 0);
    }
}
