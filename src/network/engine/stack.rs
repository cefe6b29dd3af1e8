//! One TCP connection with a container: smoltcp's state machine, an interface and a socket for each connection, so that a
//! packet costs the same however many there are.

use super::{
    emit::{self, HEADERS},
    frame::Mac,
};
use rustix::io::write;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{self, Checksum, Device, DeviceCapabilities, Medium},
    socket::tcp::{Socket, SocketBuffer, State},
    time::{Duration, Instant},
    wire::{HardwareAddress, IpCidr},
};
use std::{
    fmt,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering},
};

/// The container's end of the wire: one packet comes in, packets go out to its device at once.
pub struct Wire<'a> {
    /// A packet of the container's.
    pub incoming: Option<&'a [u8]>,
    /// Its hardware address.
    pub mac: Mac,
    /// Its device.
    pub tap: &'a OwnedFd,
    /// Where a frame is put together.
    pub out: &'a mut [u8],
    /// Bytes of the largest packet.
    pub mtu: usize,
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing { mac: self.mac, tap: self.tap, out: self.out }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing { mac: self.mac, tap: self.tap, out: self.out })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // What never leaves this machine is not damaged; what does is computed by who sends it on.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

/// A packet of the container's.
pub struct Incoming<'a>(&'a [u8]);

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// A packet for the container.
pub struct Outgoing<'a> {
    mac: Mac,
    tap: &'a OwnedFd,
    out: &'a mut [u8],
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let frame = &mut self.out[..HEADERS + length];
        let result = f(&mut frame[HEADERS..]);
        emit::envelope(frame, self.mac);
        // A device that takes nothing loses it, and it is sent again.
        let _ = write(self.tap, frame);
        result
    }
}

/// One connection. `here` is what the container sees as the other end.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl Stack {
    /// Accept the connection that `wire`'s packet asks of `here`.
    pub fn accept(here: SocketAddr, buffer: usize, now: Instant, wire: &mut Wire<'_>) -> Stack {
        let mut stack = Stack::new(here, buffer, now, wire);
        // It refuses what is listened to already and port 0, which nobody connects to.
        let _ = stack.socket().listen(here);
        stack.take(now, wire);
        stack
    }

    /// Connect to the container's `there`.
    pub fn connect(
        here: SocketAddr,
        there: SocketAddr,
        buffer: usize,
        now: Instant,
        wire: &mut Wire<'_>,
    ) -> Stack {
        let mut stack = Stack::new(here, buffer, now, wire);
        // A client's port is soon another client's: by its time stamp the container knows a new connection from one that it just
        // closed (RFC 6191); by sequence numbers that nobody can guess it could not, and would refuse every second one. Each
        // connection is a tick, since two may begin in one millisecond.
        CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        stack.socket().set_tsval_generator(Some(stamp));
        let Stack { interface, sockets, socket } = &mut stack;
        let _ = sockets.get_mut::<Socket<'_>>(*socket).connect(interface.context(), there, here);
        stack
    }

    fn new(here: SocketAddr, buffer: usize, now: Instant, wire: &mut Wire<'_>) -> Stack {
        let mut config = Config::new(HardwareAddress::Ip);
        // Sequence numbers that others can't guess; the container sees its own alone.
        config.random_seed = random();
        let mut interface = Interface::new(config, wire, now);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(here.ip().into(), 0));
        });
        // Pages of it that are never used are never there.
        let room = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(room(), room());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let socket = sockets.add(socket);
        Stack { interface, sockets, socket }
    }

    /// Take `wire`'s packet in; nothing but what can't wait is answered.
    pub fn take(&mut self, now: Instant, wire: &mut Wire<'_>) {
        self.interface.poll_ingress_single(now, wire, &mut self.sockets);
    }

    /// Send what is to be sent, up to what others can wait for: segments are as small as the container wants them. Whether that
    /// was all.
    pub fn send(&mut self, now: Instant, wire: &mut Wire<'_>) -> bool {
        // Each turn sends one.
        let mut turn = || self.interface.poll_egress(now, wire, &mut self.sockets);
        (0..SEGMENTS).any(|_| turn() == smoltcp::iface::PollResult::None)
    }

    /// When [`Stack::send`] has something to do although nothing has come in.
    pub fn due(&mut self, now: Instant) -> Option<Duration> {
        self.interface.poll_delay(now, &self.sockets)
    }

    /// The socket.
    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// Where the connection stands.
    pub fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.socket).state()
    }
}

/// Segments of one connection in one turn.
const SEGMENTS: usize = 64;

impl fmt::Debug for Stack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Stack({})", self.state())
    }
}

/// How many connections have begun.
static CONNECTIONS: AtomicU32 = AtomicU32::new(0);

/// The clock of time stamps, in milliseconds and connections.
fn stamp() -> u32 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let milliseconds = (now.tv_sec * 1000 + now.tv_nsec / 1_000_000) as u32;
    milliseconds.wrapping_add(CONNECTIONS.load(Ordering::Relaxed))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // It fails only before the kernel has any, and then a clock is as good.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}
