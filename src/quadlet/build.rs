//! `.build`: a service that builds an image.

use super::draft::{Draft, of, own};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Add the service.
pub fn build(draft: &mut Draft) -> Result<()> {
    draft.source.resource()?;
    let mut words = own(["build"]);
    words.extend(draft.options()?);
    words.extend(draft.networks()?);
    words.extend(draft.volumes()?);
    let file = draft.value("File");
    let context = context(draft)?;
    words.extend(file.map(|file| of("File", format!("--file={file}"))));
    words.extend(draft.extra()?);
    words.extend(context.map(|context| of("SetWorkingDirectory", context)));
    draft.once(false);
    draft.command("ExecStart", "", words)
}

/// The directory that is built from.
fn context(draft: &mut Draft) -> Result<Option<String>> {
    let file = draft.value("File");
    let parent =
        |path: &str| Path::new(path).parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let unit = draft.absolute(".");
    let directory = match draft.value("SetWorkingDirectory") {
        Some("unit") => unit,
        Some("file") => parent(&draft.absolute(file.context("SetWorkingDirectory=file needs File=")?)),
        Some(url) if url.contains("://") => return Ok(Some(url.to_owned())),
        Some(path) => draft.absolute(path),
        None => match (draft.unit.last("Service", "WorkingDirectory"), file) {
            (Some(directory), _) => return Ok(Some(directory.to_owned())),
            (None, Some(file)) if file.starts_with(['/', '%']) || file.contains("://") => return Ok(None),
            (None, Some(file)) => bail!("File={file}: a relative path needs SetWorkingDirectory="),
            (None, None) => bail!("[Build] has neither SetWorkingDirectory= nor File="),
        },
    };
    draft.unit.add_default("Service", "WorkingDirectory", &directory);
    Ok(Some(".".to_owned()))
}
