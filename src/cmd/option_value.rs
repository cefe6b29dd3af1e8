//! How the values of options are read: what can't be is told with the option's name and an example of what can.

use crate::error::Explain;
use anyhow::{Context, Result, bail};
use std::{fs::File, io::Read, path::Path};

/// That of `option`, if it was given.
pub fn one<T>(
    option: &str,
    value: &Option<String>,
    example: &str,
    parse: impl Fn(&str) -> Result<T>,
) -> Result<Option<T>> {
    value.as_deref().map(|text| checked(option, text, example, &parse)).transpose()
}

/// Each of those of `option`, which may come several times.
pub fn each<T, C: FromIterator<T>>(
    option: &str,
    values: &[String],
    example: &str,
    parse: impl Fn(&str) -> Result<T>,
) -> Result<C> {
    values.iter().map(|text| checked(option, text, example, &parse)).collect()
}

fn checked<T>(option: &str, text: &str, example: &str, parse: impl Fn(&str) -> Result<T>) -> Result<T> {
    let shown = || format!("{option} {}", text.chars().take(80).collect::<String>());
    parse(text).with_context(shown).hint(format!("write it as {example}"))
}

/// The file `path`, which is the value of `option`: of `limit` bytes at most.
pub fn read_bounded(option: &str, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut text))
        .with_context(|| format!("{option} {}", path.display()))
        .hint("name a file that you may read")?;
    if text.len() as u64 > limit {
        bail!("{option} {}: larger than {limit} bytes", path.display());
    }
    Ok(text)
}
