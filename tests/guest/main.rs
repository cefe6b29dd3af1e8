//! What takes systemd and control groups of version 2, in the guest of `scripts/vm`: limits that hold, delegation, units of
//! every type. Run by `scripts/test --vm`; one after the other, as they share the guest.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod ground;
mod limits;
mod networks;
mod places;
mod sessions;
mod units;
