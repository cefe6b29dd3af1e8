//! Single defences switched off, so that a test of theirs can be seen to fail (`scripts/test --bite`, docs/security.md). Only
//! in a build with the feature of this name, which no release can have.

#[cfg(all(feature = "weakened", not(debug_assertions)))]
compile_error!("the feature `weakened` switches defences off: it is for debug builds alone");

/// Whether the defence called `name` is off: it is in `CTR_WEAKEN`, a list with commas. Always false without the feature.
#[cfg(not(feature = "weakened"))]
#[inline(always)]
pub const fn is(_name: &str) -> bool {
    false
}

/// Whether the defence called `name` is off: it is in `CTR_WEAKEN`, a list with commas.
#[cfg(feature = "weakened")]
pub fn is(name: &str) -> bool {
    std::env::var("CTR_WEAKEN").is_ok_and(|names| names.split(',').any(|one| one == name))
}
