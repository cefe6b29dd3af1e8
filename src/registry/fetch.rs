//! A blob from one registry on its way to another: into a draft that the store doesn't keep, verified.

use super::{
    client::{Client, Patience},
    failure::{Failure, broken, ours, transport},
    manifest::Content,
};
use crate::storage::{Drafting, Outgoing, Store};
use anyhow::{Context, anyhow};
use reqwest::StatusCode;
use std::io::Write;

/// Fetch `content`.
pub async fn fetch(client: &Client, store: &Store, content: Content) -> Result<Outgoing, Failure> {
    let mut draft = store.draft_blob().map_err(ours)?;
    let mut patience = Patience::new();
    while draft.size() < content.size {
        let before = draft.size();
        match transfer(client, content, &mut draft).await {
            Ok(()) => break,
            Err(failure) if draft.size() > before => drop(failure),
            Err(failure) => patience.pause(failure).await?,
        }
    }
    let outgoing = draft.finish().map_err(ours)?;
    match outgoing.digest == content.digest && outgoing.size == content.size {
        true => Ok(outgoing),
        false => Err(broken(anyhow!(
            "{} sends {} bytes of {} in place of {} bytes of {}",
            client.host(),
            outgoing.size,
            outgoing.digest,
            content.size,
            content.digest
        ))),
    }
}

async fn transfer(client: &Client, content: Content, draft: &mut Drafting) -> Result<(), Failure> {
    let from = draft.size();
    let mut response = client.blob(&content.digest, from).await?;
    let mut known = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { from };
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(error, client.host()))? {
        let skipped = known.min(chunk.len() as u64);
        known -= skipped;
        let fresh = &chunk[skipped as usize..];
        if draft.size() + fresh.len() as u64 > content.size {
            let what = format!("{} sends more than {} bytes", client.host(), content.size);
            return Err(broken(anyhow!(what)));
        }
        draft.write_all(fresh).with_context(|| format!("keep blob {}", content.digest)).map_err(ours)?;
    }
    Ok(())
}
