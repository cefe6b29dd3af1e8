//! Names for containers whose user gave none.

use crate::storage::Name;
use anyhow::{Context, Result};
use rustix::rand::{GetRandomFlags, getrandom};

/// A random name such as `calm_otter`; the `attempt`th try adds a number, since somebody may have the plain one.
pub fn made_up(attempt: u32) -> Result<Name> {
    let mut random = [0; 3];
    getrandom(&mut random, GetRandomFlags::empty()).context("get random bytes for a name")?;
    let pick = |list: &[&'static str; 32], byte: u8| list[usize::from(byte % 32)];
    let plain = format!("{}_{}", pick(&MANNERS, random[0]), pick(&ANIMALS, random[1]));
    match attempt {
        0 => plain.parse(),
        _ => format!("{plain}{}", u32::from(random[2]) + 256 * attempt).parse(),
    }
}

const MANNERS: [&str; 32] = [
    "able", "agile", "alert", "amber", "brave", "brisk", "calm", "clear", "deft", "eager", "early", "fair",
    "fond", "frank", "gentle", "glad", "keen", "kind", "light", "lucid", "merry", "mild", "neat", "noble",
    "patient", "quick", "quiet", "ready", "sober", "steady", "swift", "warm",
];
const ANIMALS: [&str; 32] = [
    "badger", "bear", "beaver", "bison", "crane", "curlew", "deer", "dolphin", "eagle", "falcon", "finch",
    "fox", "gull", "hare", "heron", "ibex", "jay", "kestrel", "lark", "lynx", "marten", "mole", "newt",
    "otter", "owl", "plover", "raven", "seal", "stork", "swan", "tern", "wren",
];
