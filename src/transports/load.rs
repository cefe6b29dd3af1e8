//! `load`: everything comes in, then it is understood and verified, then it appears in the store.

use super::{
    input::{Members, Source},
    intake::{self, Contents},
    plan::{self, Plan, PlannedLayer},
};
use crate::{
    error::Explain,
    registry::{Platform, Progress},
    storage::{Digest, Image, LayerDraft, LayerSource, Store},
};
use anyhow::{Context, Result, bail};
use std::{collections::BTreeSet, io::Read};

/// An image that has been loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its reference, or none.
    pub name: Option<String>,
    /// Its id.
    pub id: Digest,
}

/// Load the images of `source` into the store. Runs inside the user namespace that owns the store; starts threads.
///
/// # Errors
/// podman-load(1): what is wrong with the source, or the disk is full; the store is as it was.
pub fn load(store: &Store, source: Source, progress: &dyn Progress) -> Result<Vec<Loaded>> {
    // What the store has now, it has until the images are published.
    let _hold = store.hold()?;
    let make_anew = "make the archive again: `ctr save`, `podman save`, `docker save` and `skopeo copy` write what is read here";
    let members = Members::open(source)?;
    let mut contents = intake::take_in(store, members, progress).hint(make_anew)?;
    let plans = plan::plan(&mut contents).hint(make_anew)?;
    let drafts = layers(store, &mut contents, &plans).hint(make_anew)?;
    for plan in &plans {
        if Platform::host().distance(&plan.platform).is_none() {
            progress.note(&format!(
                "the image is made for {}, this machine is {}",
                plan.platform,
                Platform::host()
            ));
        }
    }
    for draft in drafts {
        draft.publish()?;
    }
    let images = plans.iter().map(|plan| image(store, plan)).collect::<Result<Vec<_>>>()?;
    let images: Vec<Image> = images.into_iter().flatten().collect();
    publish(store, &images)?;
    let loaded = |image: &Image| Loaded { name: image.name().map(str::to_owned), id: image.config };
    Ok(images.iter().map(loaded).collect())
}

/// The layers that the store lacks.
fn layers(store: &Store, contents: &mut Contents, plans: &[Plan]) -> Result<Vec<LayerDraft>> {
    let mut drafts = Vec::new();
    let mut known = BTreeSet::new();
    for PlannedLayer { member, blob, diff_id } in plans.iter().flat_map(|plan| &plan.layers) {
        if !known.insert((member, *diff_id)) {
            continue;
        }
        let stored = contents.layer(member)?;
        match contents.take_draft(member) {
            Some(draft) if draft.diff_id != *diff_id => {
                bail!("layer {} unpacks to {}, not to its diff id {diff_id}", blob.digest, draft.diff_id)
            }
            Some(draft) => drafts.push(draft),
            None if store.has_layer(diff_id) && store.has_blob(&blob.digest) => {}
            // The blob is all that is left of it; or somebody wants another diff id for it.
            None => drafts.push(unpack_again(
                store,
                LayerSource {
                    blob: blob.digest,
                    size: blob.size,
                    compression: stored.compression,
                    diff_id: *diff_id,
                },
            )?),
        }
    }
    Ok(drafts)
}

fn unpack_again(store: &Store, source: LayerSource) -> Result<LayerDraft> {
    let (mut file, _) = store.open_blob(&source.blob)?;
    let mut ingest = store.receive(source.into())?;
    loop {
        let mut chunk = vec![0; 256 << 10];
        let length = file.read(&mut chunk).context("read a blob")?;
        if length == 0 {
            return ingest.settle();
        }
        chunk.truncate(length);
        ingest.push(chunk)?;
    }
}

/// What `plan` becomes, once under each of its names.
fn image(store: &Store, plan: &Plan) -> Result<Vec<Image>> {
    let manifest = store.put_blob(&plan.manifest)?;
    let distinct: BTreeSet<Digest> = plan.layers.iter().map(|layer| layer.diff_id).collect();
    let sizes = distinct.iter().map(|layer| store.layer_size(layer)).collect::<Result<Vec<_>>>()?;
    let image = Image {
        reference: Image::unnamed_reference(&manifest),
        manifest,
        index: plan.index.as_ref().map(|index| store.put_blob(index)).transpose()?,
        config: store.put_blob(&plan.config)?,
        layers: plan.layers.iter().map(|layer| layer.diff_id).collect(),
        blobs: plan.layers.iter().map(|layer| layer.blob.digest).collect(),
        size: sizes.iter().sum(),
        platform: plan.platform.to_string(),
        pulled: jiff::Timestamp::now(),
        created: None,
        former: Vec::new(),
    };
    let named = plan.names.iter().map(|name| Image { reference: name.clone(), ..image.clone() });
    Ok(if plan.names.is_empty() { vec![image] } else { named.collect() })
}

/// All of them or none.
fn publish(store: &Store, images: &[Image]) -> Result<()> {
    let mut done: Vec<(&Image, Option<Image>)> = Vec::new();
    for image in images {
        let before = store.image(&image.reference)?;
        if let Err(failure) = store.publish_image(image) {
            for (image, before) in done.iter().rev() {
                undo(store, image, before);
            }
            return Err(failure);
        }
        done.push((image, before));
    }
    Ok(())
}

/// The failure is what counts.
fn undo(store: &Store, image: &Image, before: &Option<Image>) {
    match before {
        Some(before) => drop(store.publish_image(before)),
        None => drop(store.forget(&image.config, &[&image.reference])),
    }
}
