//! Images as archives, made by hand: files in any layout.

use super::{Compression, Ctr, Layer, Outcome, digest, feed};
use serde_json::{Value, json};
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// The files of an OCI layout or a Docker archive, in the order in which they are added.
#[derive(Clone, Default)]
pub struct Layout {
    /// Names and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// Symbolic links: names and targets.
    pub links: Vec<(String, String)>,
}

impl Layout {
    /// Nothing.
    pub fn new() -> Layout {
        Layout::default()
    }

    /// One more file.
    pub fn file(mut self, name: &str, contents: impl AsRef<[u8]>) -> Layout {
        self.files.push((name.to_owned(), contents.as_ref().to_vec()));
        self
    }

    /// One more link.
    pub fn link(mut self, name: &str, target: &str) -> Layout {
        self.links.push((name.to_owned(), target.to_owned()));
        self
    }

    /// A blob under its digest; its descriptor.
    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        self.files.push((format!("blobs/sha256/{}", &digest[7..]), bytes.to_vec()));
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// An image of one layer: the descriptor of its manifest.
    pub fn image(&mut self, architecture: &str, layer: Layer) -> Value {
        let (tar, blob, compression) = layer.pack();
        let packing = match compression {
            Compression::Plain => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        let layer = self.blob(&format!("application/vnd.oci.image.layer.v1.tar{packing}"), &blob);
        let config = config(architecture, &[digest(&tar)]);
        let config = self.blob("application/vnd.oci.image.config.v1+json", &config);
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer] });
        self.blob(media_type, manifest.to_string().as_bytes())
    }

    /// With index.json of these descriptors, and oci-layout.
    pub fn index(self, manifests: &[Value]) -> Layout {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        self.file("index.json", index.to_string()).file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// As a tar archive.
    pub fn tar(&self) -> Vec<u8> {
        let mut archive = Layer::new(Compression::Plain);
        for (name, target) in &self.links {
            archive = archive.symlink(name, target);
        }
        for (name, contents) in &self.files {
            archive = archive.file(name, contents);
        }
        archive.tar()
    }

    /// As files below `directory` of the home of `ctr`.
    pub fn directory(&self, ctr: &Ctr, directory: &str) {
        for (name, contents) in &self.files {
            ctr.file(&format!("{directory}/{name}"), contents);
        }
    }
}

/// An image configuration.
pub fn config(architecture: &str, diff_ids: &[String]) -> Vec<u8> {
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    let config = json!({ "architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs });
    config.to_string().into_bytes()
}

/// `ctr load` of this archive fails with `about` in its error, and the store is as it was.
#[track_caller]
pub fn unchanged(ctr: &Ctr, archive: &[u8], about: &str) -> Outcome {
    let before = ctr.store();
    let outcome = feed(ctr.command(["load", "-q"]), archive).fails(about);
    assert!(before == ctr.store(), "the store changed, {outcome}");
    outcome
}

/// `bytes` as a program compresses them.
pub fn packed_by(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {program}: {e}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().expect("wait for it");
    writer.join().expect("write to it").expect("write to it");
    output.stdout
}
