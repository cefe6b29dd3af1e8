//! Images made by hand, entry by entry, and pushed to a registry as a client would.

use super::Registry;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::{fs, io::Write, sync::OnceLock};

/// `sha256:<hex>` of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// How a layer's archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// application/vnd.oci.image.layer.v1.tar
    Plain,
    /// …+gzip
    Gzip,
    /// …+zstd
    Zstd,
}

/// Whose media types the manifest carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// OCI image specification 1.1.
    Oci,
    /// Docker image manifest version 2, schema 2.
    Docker,
}

/// A layer in the making. Paths and links are written as given: `..` and absolute ones as well.
pub struct Layer {
    tar: tar::Builder<Vec<u8>>,
    compression: Compression,
    behind: Vec<u8>,
}

impl Layer {
    /// An empty layer.
    pub fn new(compression: Compression) -> Layer {
        Layer { tar: tar::Builder::new(Vec::new()), compression, behind: Vec::new() }
    }

    /// Debian's busybox as `/bin/busybox` with its applets, /etc/passwd, /etc/group and the usual directories.
    pub fn busybox() -> Layer {
        static APPLETS: OnceLock<(Vec<u8>, Vec<String>)> = OnceLock::new();
        let (program, applets) = APPLETS.get_or_init(|| {
            let list =
                std::process::Command::new("/bin/busybox").arg("--list").output().expect("run busybox");
            let list = String::from_utf8(list.stdout).expect("names of applets");
            (
                fs::read("/bin/busybox").expect("read busybox"),
                list.split_whitespace().map(str::to_owned).collect(),
            )
        });
        let mut layer = Layer::new(Compression::Plain);
        for dir in ["bin", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "usr/bin", "var"] {
            layer = layer.dir(dir, 0o755);
        }
        layer = layer.dir("tmp", 0o1777).mode_file("bin/busybox", program, 0o755);
        for applet in applets.iter().filter(|applet| *applet != "busybox") {
            layer = layer.symlink(&format!("bin/{applet}"), "busybox");
        }
        layer
            .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n")
            .file("etc/group", "root:x:0:\nnogroup:x:65534:\nuser:x:1000:\nstaff:x:50:user\n")
    }

    /// A regular file of mode 0644.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Layer {
        self.mode_file(path, content, 0o644)
    }

    /// A regular file of `mode`.
    pub fn mode_file(self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Layer {
        self.owned_file(path, content, mode, 0, 0)
    }

    /// A regular file that belongs to `uid` and `gid`.
    pub fn owned_file(self, path: &str, content: impl AsRef<[u8]>, mode: u32, uid: u64, gid: u64) -> Layer {
        let mut header = header(tar::EntryType::Regular, mode);
        header.set_uid(uid);
        header.set_gid(gid);
        self.entry(path, header, None, content.as_ref())
    }

    /// A directory.
    pub fn dir(self, path: &str, mode: u32) -> Layer {
        self.entry(path, header(tar::EntryType::Directory, mode), None, &[])
    }

    /// A symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Layer {
        self.entry(path, header(tar::EntryType::Symlink, 0o777), Some(target), &[])
    }

    /// A hard link to another path of the archive.
    pub fn hardlink(self, path: &str, target: &str) -> Layer {
        self.entry(path, header(tar::EntryType::Link, 0o644), Some(target), &[])
    }

    /// A character device.
    pub fn device(self, path: &str, major: u32, minor: u32) -> Layer {
        self.node(tar::EntryType::Char, path, major, minor)
    }

    /// A block device.
    pub fn disk(self, path: &str, major: u32, minor: u32) -> Layer {
        self.node(tar::EntryType::Block, path, major, minor)
    }

    fn node(self, kind: tar::EntryType, path: &str, major: u32, minor: u32) -> Layer {
        let mut header = header(kind, 0o666);
        header.set_device_major(major).expect("a major number");
        header.set_device_minor(minor).expect("a minor number");
        self.entry(path, header, None, &[])
    }

    /// These bytes follow the compressed archive; its diff id doesn't know of them.
    pub fn behind(mut self, bytes: Vec<u8>) -> Layer {
        self.behind = bytes;
        self
    }

    /// PAX records for the entry that follows.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Layer {
        self.tar.append_pax_extensions(records.iter().copied()).expect("write PAX records");
        self
    }

    fn entry(mut self, path: &str, mut header: tar::Header, link: Option<&str>, content: &[u8]) -> Layer {
        // The crate refuses hostile paths and splits long ones; a GNU long-name entry before the header does neither.
        for (kind, value) in [(b'L', Some(path)), (b'K', link)] {
            let Some(value) = value else { continue };
            if value.len() >= 100 {
                let mut long = self::header(tar::EntryType::new(kind), 0o644);
                long.set_size(value.len() as u64 + 1);
                long.set_cksum();
                self.tar
                    .append(&long, [value.as_bytes(), &[0]].concat().as_slice())
                    .expect("write a long name");
            }
            let old = header.as_old_mut();
            let field = if kind == b'L' { &mut old.name } else { &mut old.linkname };
            let length = value.len().min(99);
            field[..length].copy_from_slice(&value.as_bytes()[..length]);
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.tar.append(&header, content).expect("write an entry");
        self
    }

    /// The plain archive.
    pub fn tar(self) -> Vec<u8> {
        self.pack().0
    }

    /// The archive and the blob made of it.
    pub fn pack(self) -> (Vec<u8>, Vec<u8>, Compression) {
        let tar = self.tar.into_inner().expect("end the archive");
        let mut blob = match self.compression {
            Compression::Plain => tar.clone(),
            Compression::Zstd => zstd::encode_all(tar.as_slice(), 3).expect("compress"),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&tar).expect("compress");
                encoder.finish().expect("compress")
            }
        };
        blob.extend(self.behind);
        (tar, blob, self.compression)
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(0);
    header
}

type Tweak = Box<dyn Fn(&mut serde_json::Value)>;

/// An image in the making.
pub struct TestImage {
    layers: Vec<Layer>,
    config: serde_json::Value,
    details: serde_json::Value,
    flavour: Flavour,
    architecture: String,
    tweak: Option<Tweak>,
}

/// What a push made; all digests are `sha256:<hex>`.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Of the manifest.
    pub manifest: String,
    /// Bytes of the manifest.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// Of the config: the image's id.
    pub config: String,
    /// Of the packed layers.
    pub blobs: Vec<String>,
    /// Of the layers' archives.
    pub diff_ids: Vec<String>,
    /// GOARCH.
    pub architecture: String,
}

impl Pushed {
    /// The id as `ctr images -q` prints it.
    pub fn short_id(&self) -> &str {
        &self.config["sha256:".len()..][..12]
    }
}

impl TestImage {
    /// An image of `layers` for this machine.
    pub fn new(layers: impl IntoIterator<Item = Layer>) -> TestImage {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        TestImage {
            layers: layers.into_iter().collect(),
            config: serde_json::json!({ "Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/sh"] }),
            details: serde_json::json!({}),
            flavour: Flavour::Oci,
            architecture: architecture.to_owned(),
            tweak: None,
        }
    }

    /// The `config` object of the image configuration (Env, Cmd, User …).
    pub fn config(mut self, config: serde_json::Value) -> TestImage {
        self.config = config;
        self
    }

    /// What the image configuration has beside it (created, history …).
    pub fn details(mut self, details: serde_json::Value) -> TestImage {
        self.details = details;
        self
    }

    /// The media types.
    pub fn flavour(mut self, flavour: Flavour) -> TestImage {
        self.flavour = flavour;
        self
    }

    /// Another GOARCH than this machine's.
    pub fn architecture(mut self, architecture: &str) -> TestImage {
        self.architecture = architecture.to_owned();
        self
    }

    /// Change the manifest before it is pushed.
    pub fn tweak(mut self, change: impl Fn(&mut serde_json::Value) + 'static) -> TestImage {
        self.tweak = Some(Box::new(change));
        self
    }

    /// Push to `repository:tag`.
    pub fn push(self, registry: &Registry, target: &str) -> Pushed {
        let (repository, tag) = target.rsplit_once(':').expect("repository:tag");
        let docker = self.flavour == Flavour::Docker;
        let (mut diff_ids, mut descriptors) = (Vec::new(), Vec::new());
        for layer in self.layers {
            let (tar, blob, compression) = layer.pack();
            let kind = match (docker, compression) {
                (false, Compression::Plain) => "application/vnd.oci.image.layer.v1.tar",
                (false, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
                (false, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
                (true, Compression::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
                (true, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
                (true, Compression::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            };
            diff_ids.push(digest(&tar));
            descriptors.push(descriptor(kind, &blob));
            registry.put_blob(repository, &blob);
        }
        let mut config = serde_json::json!({
            "architecture": self.architecture, "os": "linux", "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        for (key, value) in self.details.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let config = serde_json::to_vec(&config).expect("encode the config");
        registry.put_blob(repository, &config);
        let (media_type, config_type) = match docker {
            false => {
                ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json")
            }
            true => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
            ),
        };
        let blobs = descriptors.iter().map(|d| d["digest"].as_str().unwrap_or_default().to_owned()).collect();
        let mut manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type,
            "config": descriptor(config_type, &config), "layers": descriptors,
        });
        if let Some(tweak) = self.tweak {
            tweak(&mut manifest);
        }
        let bytes = serde_json::to_vec(&manifest).expect("encode the manifest");
        registry.put_manifest(repository, tag, media_type, &bytes);
        Pushed {
            manifest: digest(&bytes),
            size: bytes.len() as u64,
            media_type: media_type.to_owned(),
            config: digest(&config),
            blobs,
            diff_ids,
            architecture: self.architecture,
        }
    }
}

/// Push an index (or Docker manifest list) of `images`, already in the same repository; its digest.
pub fn index(registry: &Registry, target: &str, flavour: Flavour, images: &[Pushed]) -> String {
    let (repository, tag) = target.rsplit_once(':').expect("repository:tag");
    let media_type = match flavour {
        Flavour::Oci => "application/vnd.oci.image.index.v1+json",
        Flavour::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
    };
    let manifests: Vec<_> = images
        .iter()
        .map(|image| {
            serde_json::json!({
                "mediaType": image.media_type, "digest": image.manifest, "size": image.size,
                "platform": { "os": "linux", "architecture": image.architecture },
            })
        })
        .collect();
    let value = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    let bytes = serde_json::to_vec(&value).expect("encode the index");
    registry.put_manifest(repository, tag, media_type, &bytes);
    digest(&bytes)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}
