//! A set of capabilities as the kernel keeps it, one bit each. build.rs compiles this file as well.

use caps::Capability;
use std::fmt;

/// Capabilities by number: bit `n` stands for capability `n` of capabilities(7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability at all.
    pub const EMPTY: CapSet = CapSet(0);

    /// What a container gets unless told otherwise: Podman's eleven.
    pub const DEFAULT: CapSet = CapSet::of(&[
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_FOWNER,
        Capability::CAP_FSETID,
        Capability::CAP_KILL,
        Capability::CAP_NET_BIND_SERVICE,
        Capability::CAP_SETFCAP,
        Capability::CAP_SETGID,
        Capability::CAP_SETPCAP,
        Capability::CAP_SETUID,
        Capability::CAP_SYS_CHROOT,
    ]);

    /// The set of exactly these.
    pub const fn of(capabilities: &[Capability]) -> CapSet {
        let mut bits = 0;
        let mut at = 0;
        while at < capabilities.len() {
            bits |= 1 << capabilities[at] as u8;
            at += 1;
        }
        CapSet(bits)
    }

    /// The set whose bit mask is `bits`, in the layout of `CapBnd` in proc_pid_status(5).
    pub const fn from_bits(bits: u64) -> CapSet {
        CapSet(bits)
    }

    /// The bit mask, as capset(2) wants it (low word first).
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Is `capability` one of them?
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u8 != 0
    }

    /// Is there none?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in either set.
    pub const fn union(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }

    /// Those in both sets.
    pub const fn intersection(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// Those of `self` that are not in `other`.
    pub const fn difference(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// Its members in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        let mut members: Vec<_> = caps::all().into_iter().filter(|&c| self.contains(c)).collect();
        members.sort_unstable_by_key(Capability::index);
        members.into_iter()
    }

    /// The capability called `name`: any case, with or without `CAP_`.
    pub fn named(name: &str) -> Option<CapSet> {
        let capability = caps::to_canonical(name).parse().ok()?;
        Some(CapSet::of(&[capability]))
    }
}

/// The names, blank-separated, in the kernel's order.
impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(|c| c.to_string()).collect();
        f.write_str(&names.join(" "))
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapSet({self})")
    }
}
