//! TAP devices: a network interface whose other end is a descriptor (Documentation/networking/tuntap.rst).

use rustix::fs::{Mode, OFlags, open};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// Make the interface `name` in the current network namespace; it goes with that, and has no carrier once the descriptor is closed.
/// Were it to go with the descriptor, who closes that would wait for the kernel, some twenty milliseconds. Frames have a
/// `struct virtio_net_hdr` in front; segments come unsplit (TCP of IPv4 and IPv6) and checksums uncomputed.
///
/// # Errors
/// /dev/net/tun can't be opened; EPERM: no CAP_NET_ADMIN over the namespace; EBUSY: there is such an interface.
pub fn create(name: &str) -> io::Result<OwnedFd> {
    let tap = open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    // SAFETY: ifreq is plain data for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes the structure, which outlives the call.
    let made = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    // SAFETY: TUNSETOFFLOAD takes its flags by value.
    let set = made == 0 && unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD as _, OFFLOADS) } == 0;
    // SAFETY: so does TUNSETPERSIST.
    let set =
        set && unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETPERSIST as _, 1 as libc::c_ulong) } == 0;
    if set { Ok(tap) } else { Err(io::Error::last_os_error()) }
}

/// TUN_F_CSUM, TUN_F_TSO4 and TUN_F_TSO6 of linux/if_tun.h.
const OFFLOADS: libc::c_ulong = 0x01 | 0x02 | 0x04;
