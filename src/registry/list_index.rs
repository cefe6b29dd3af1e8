//! The index of a manifest list: entries put in, changed and taken out. Pure. Its fields are sorted, so that the same entries
//! are the same bytes.

use super::manifest::Content;
use crate::storage::Digest;
use anyhow::{Context, Result};
use oci_distribution::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
use serde_json::{Map, Value, json};

/// What an entry says besides where its manifest is (podman-manifest-annotate(1)).
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// GOARCH.
    pub architecture: Option<String>,
    /// GOOS.
    pub os: Option<String>,
    /// Of the operating system.
    pub os_version: Option<String>,
    /// Of the architecture.
    pub variant: Option<String>,
    /// What the processor has to have.
    pub features: Vec<String>,
    /// What the operating system has to have.
    pub os_features: Vec<String>,
    /// Key and value.
    pub annotations: Vec<(String, String)>,
}

/// An index in the making.
#[derive(Clone, Debug)]
pub struct Index(Value);

impl Index {
    /// Without entries.
    pub fn new() -> Index {
        Index(json!({ "schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX_MEDIA_TYPE, "manifests": [] }))
    }

    /// As it was written.
    pub fn read(bytes: &[u8]) -> Result<Index> {
        serde_json::from_slice(bytes).map(Index).context("read the index of the list")
    }

    /// To be written.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.0).context("encode the index")
    }

    /// Put `entry` in, in place of one of the same manifest.
    pub fn put(&mut self, entry: Value) {
        let entries = self.entries();
        entries.retain(|other| other["digest"] != entry["digest"]);
        entries.push(entry);
    }

    /// Take the entry of `manifest` out; false when there is none.
    pub fn remove(&mut self, manifest: &Digest) -> bool {
        let entries = self.entries();
        let before = entries.len();
        entries.retain(|entry| entry["digest"] != json!(manifest));
        entries.len() < before
    }

    /// Mark the entry of `manifest`; false when there is none.
    pub fn mark(&mut self, manifest: &Digest, marks: &Marks) -> bool {
        let entry = self.entries().iter_mut().find(|entry| entry["digest"] == json!(manifest));
        entry.map(|entry| marks.put_on(entry)).is_some()
    }

    fn entries(&mut self) -> &mut Vec<Value> {
        if !self.0["manifests"].is_array() {
            self.0["manifests"] = json!([]);
        }
        match &mut self.0["manifests"] {
            Value::Array(entries) => entries,
            _ => unreachable!("made an array above"),
        }
    }
}

/// An entry for an image whose config has these fields.
pub fn entry(media_type: &str, content: Content, config: &Value) -> Value {
    let mut platform = Map::new();
    for field in ["architecture", "os", "variant", "os.version", "os.features"] {
        if let Some(value) = config.get(field).filter(|value| !value.is_null() && **value != json!("")) {
            platform.insert(field.to_owned(), value.clone());
        }
    }
    let mut entry = json!({ "mediaType": media_type, "digest": content.digest, "size": content.size });
    if !platform.is_empty() {
        entry["platform"] = Value::Object(platform);
    }
    entry
}

impl Marks {
    /// Write them over those that `entry` has.
    pub fn put_on(&self, entry: &mut Value) {
        let texts = [
            ("architecture", &self.architecture),
            ("os", &self.os),
            ("os.version", &self.os_version),
            ("variant", &self.variant),
        ];
        let texts = texts.into_iter().filter_map(|(field, text)| Some((field, json!(text.as_ref()?))));
        let lists = [("features", &self.features), ("os.features", &self.os_features)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        for (field, value) in texts.chain(lists.map(|(field, list)| (field, json!(list)))) {
            entry["platform"][field] = value;
        }
        for (key, value) in &self.annotations {
            entry["annotations"][key] = json!(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let content = |text: &str| Content { digest: Digest::of(text.as_bytes()), size: 3 };
        let config =
            json!({ "os": "linux", "architecture": "arm", "variant": "v7", "os.version": "", "config": {} });
        let mut index = Index::new();
        index.put(entry("a/b", content("x"), &config));
        index.put(entry("a/b", content("y"), &json!({})));
        let marks = Marks {
            variant: Some("v8".into()),
            annotations: vec![("k".into(), "v".into())],
            features: vec!["f".into()],
            ..Marks::default()
        };
        assert!(index.mark(&Digest::of(b"y"), &marks) && !index.mark(&Digest::of(b"z"), &marks));
        index.put(entry("a/b", content("x"), &config));
        let text = String::from_utf8(index.bytes().unwrap()).unwrap();
        let shown: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(shown["manifests"][0]["platform"], json!({ "variant": "v8", "features": ["f"] }));
        assert_eq!(shown["manifests"][0]["annotations"], json!({ "k": "v" }));
        assert_eq!(
            shown["manifests"][1]["platform"],
            json!({ "os": "linux", "architecture": "arm", "variant": "v7" })
        );
        assert!(index.remove(&Digest::of(b"x")) && !index.remove(&Digest::of(b"x")));
        assert_eq!(Index::read(&index.bytes().unwrap()).unwrap().entries().len(), 1);
    }
}
