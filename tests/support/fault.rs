//! A proxy in front of the real registry that lets requests through, notes them, and spoils chosen answers.

use super::{Registry, http::Head, registry::insecure};
use std::{
    collections::HashMap,
    io::{self, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// What happens to an answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection ends after this many bytes of the body.
    Cut(usize),
    /// The body stops after this many bytes while the connection stays open, until [`Faults::release`].
    Stall(usize),
    /// One byte in the middle is another.
    Corrupt,
    /// The body ends this much earlier, and Content-Length says so.
    Shorter(usize),
    /// This many bytes more follow, and Content-Length says so.
    Longer(usize),
    /// Another answer altogether: status line, headers, body.
    Answer(&'static str, Vec<(&'static str, String)>, Vec<u8>),
    /// The connection is reset after this many bytes of the body.
    Reset(usize),
    /// The body never ends; Content-Length is this, or missing.
    Endless(Option<u64>),
    /// The registry gets only so many bytes of the request's body, and keeps them; whoever sent it hears nothing.
    Taken(usize),
    /// The registry's connection and ours end after so many bytes of the request's body.
    Broken(usize),
}

impl Fault {
    /// An error answer without further headers.
    pub fn status(line: &'static str) -> Fault {
        Fault::Answer(line, Vec::new(), Vec::new())
    }

    /// Other JSON with the right Content-Type.
    pub fn json(media_type: &str, body: impl Into<Vec<u8>>) -> Fault {
        Fault::Answer("200 OK", vec![("content-type", media_type.to_owned())], body.into())
    }
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET`.
    pub method: String,
    /// `/v2/library/tiny/manifests/latest`.
    pub path: String,
    /// The Range header.
    pub range: Option<String>,
    /// The Content-Range header.
    pub content_range: Option<String>,
    /// The Authorization header.
    pub authorization: Option<String>,
}

/// The proxy; it listens until the process ends.
pub struct Faults {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    registry: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    stalled: usize,
    released: bool,
    bytes: u64,
    /// Where uploads are of which a client missed the last answer.
    moved: HashMap<String, String>,
}

struct Rule {
    method: &'static str,
    path: String,
    fault: Fault,
    times: usize,
}

impl Faults {
    /// In front of `registry`; nothing is spoiled yet.
    pub fn new(registry: &Registry) -> Faults {
        Faults::at(Ipv4Addr::LOCALHOST.into(), registry)
    }

    /// The same at an address of this machine that is not loopback's, if it has one.
    pub fn outside(registry: &Registry) -> Option<Faults> {
        // No packet is sent: the kernel only chooses where it would go out.
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_loopback()).then(|| Faults::at(address, registry))
    }

    fn at(address: IpAddr, registry: &Registry) -> Faults {
        let listener = TcpListener::bind((address, 0)).expect("listen");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            registry: registry.address(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = accepting.clone();
                thread::spawn(move || shared.serve(stream));
            }
        });
        Faults { address, shared }
    }

    /// Spoil the next `times` GET answers whose path contains `path`; rules are tried in the order they were given.
    pub fn spoil(&self, path: &str, fault: Fault, times: usize) -> &Faults {
        self.spoil_any("GET", path, fault, times)
    }

    /// The same for another method.
    pub fn spoil_any(&self, method: &'static str, path: &str, fault: Fault, times: usize) -> &Faults {
        self.shared.lock().rules.push(Rule { method, path: path.to_owned(), fault, times });
        self
    }

    /// The requests so far with this method and a path that contains `path`.
    pub fn asked(&self, method: &str, path: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.method == method && seen.path.contains(path));
        seen
    }

    /// `target` named at the proxy: `127.0.0.1:5000/library/tiny:latest`.
    pub fn name(&self, target: &str) -> String {
        format!("{}/{target}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A registries.conf that lets `ctr` speak plain HTTP with the proxy.
    pub fn conf(&self) -> String {
        insecure(self.address)
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// Bytes of bodies sent so far.
    pub fn bytes(&self) -> u64 {
        self.shared.lock().bytes
    }

    /// Block until `count` requests have come with this method and a path that contains `path`.
    pub fn wait_asked(&self, method: &str, path: &str, count: usize) {
        let asked = |state: &mut State| {
            state.seen.iter().filter(|seen| seen.method == method && seen.path.contains(path)).count() < count
        };
        drop(self.shared.changed.wait_while(self.shared.lock(), asked).expect("no panic while held"));
    }

    /// Block until `count` answers stand still.
    pub fn wait_stalled(&self, count: usize) {
        let stalled = self.shared.changed.wait_while(self.shared.lock(), |state| state.stalled < count);
        drop(stalled.expect("no panic while held"));
    }

    /// End the answers that stand still.
    pub fn release(&self) {
        self.shared.lock().released = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let Some(mut request) = Head::read(&mut reader)? else { return Ok(()) };
        let fault = self.note(&request);
        self.lead(&mut request);
        if let Some(Fault::Taken(bytes) | Fault::Broken(bytes)) = fault {
            let mut sent = vec![0; bytes];
            reader.read_exact(&mut sent)?;
            if let Some(Fault::Broken(_)) = fault {
                let mut stream = TcpStream::connect(self.registry)?;
                stream.write_all(&request.bytes())?;
                return stream.write_all(&sent);
            }
            let upload = upload_of(&request);
            request.set("content-length", bytes);
            request.headers.retain(|(name, _)| name != "content-range");
            let (head, _) = self.forward(request, &sent)?;
            let next = head.get("location").unwrap_or_default().to_owned();
            self.lock().moved.insert(upload, next);
            return Ok(());
        }
        let mut sent = vec![0; request.length() as usize];
        reader.read_exact(&mut sent)?;
        if let Some(Fault::Answer(status, headers, body)) = fault {
            let mut head = Head { first: format!("HTTP/1.1 {status}"), ..Head::default() };
            headers.into_iter().for_each(|(name, value)| head.set(name, value));
            return self.send(&mut client, head, &body, body.len());
        }
        let (head, mut body) = self.forward(request, &sent)?;
        let half = body.len() / 2;
        let whole = body.len();
        match fault {
            None | Some(Fault::Answer(..) | Fault::Taken(_) | Fault::Broken(_)) => {}
            Some(Fault::Cut(bytes)) => return self.send(&mut client, head, &body[..bytes.min(whole)], whole),
            Some(Fault::Reset(bytes)) => {
                self.send(&mut client, head, &body[..bytes.min(whole)], whole)?;
                // With no time to linger the rest is thrown away.
                rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO))?;
                return Ok(());
            }
            Some(Fault::Stall(bytes)) => {
                self.send(&mut client, head, &body[..bytes.min(whole)], whole)?;
                self.lock().stalled += 1;
                self.changed.notify_all();
                let released = self.changed.wait_while(self.lock(), |state| !state.released);
                drop(released.expect("no panic while held"));
                return Ok(());
            }
            Some(Fault::Corrupt) => body[half] ^= 0x55,
            Some(Fault::Shorter(bytes)) => body.truncate(whole - bytes),
            Some(Fault::Longer(bytes)) => body.resize(whole + bytes, b'x'),
            Some(Fault::Endless(length)) => return self.endless(&mut client, head, length),
        }
        let length = if body.is_empty() { head.length() as usize } else { body.len() };
        self.send(&mut client, head, &body, length)
    }

    /// Remember the request; the fault that its answer suffers.
    fn note(&self, request: &Head) -> Option<Fault> {
        let mut words = request.first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header = |name| request.get(name).map(str::to_owned);
        let mut state = self.lock();
        let hit =
            state.rules.iter_mut().find(|r| method == r.method && r.times > 0 && path.contains(&r.path));
        let fault = hit.map(|rule| {
            rule.times -= 1;
            rule.fault.clone()
        });
        state.seen.push(Seen {
            method,
            path,
            range: header("range"),
            content_range: header("content-range"),
            authorization: header("authorization"),
        });
        self.changed.notify_all();
        fault
    }

    /// Docker's registry forgets an upload that is asked for at a place other than the last: lead there, as others do.
    fn lead(&self, request: &mut Head) {
        let upload = upload_of(request);
        let Some(place) = self.lock().moved.remove(&upload) else { return };
        let method = request.first.split(' ').next().unwrap_or_default();
        let path = place.splitn(4, '/').nth(3).unwrap_or_default();
        let digest = request.first.split(['&', '?', ' ']).find(|part| part.starts_with("digest="));
        let digest = digest.map(|digest| format!("&{digest}")).unwrap_or_default();
        request.first = format!("{method} /{path}{digest} HTTP/1.1");
    }

    /// The registry's own answer.
    fn forward(&self, mut request: Head, body: &[u8]) -> io::Result<(Head, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.registry)?;
        request.set("connection", "close");
        stream.write_all(&request.bytes())?;
        stream.write_all(body)?;
        let mut reader = BufReader::new(stream);
        let head = Head::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut body = Vec::new();
        reader.read_to_end(&mut body)?;
        Ok((head, body))
    }

    fn send(&self, client: &mut TcpStream, mut head: Head, body: &[u8], length: usize) -> io::Result<()> {
        head.set("content-length", length);
        head.set("connection", "close");
        client.write_all(&head.bytes())?;
        client.write_all(body)?;
        self.lock().bytes += body.len() as u64;
        Ok(())
    }

    fn endless(&self, client: &mut TcpStream, mut head: Head, length: Option<u64>) -> io::Result<()> {
        head.headers.retain(|(name, _)| name != "content-length");
        if let Some(length) = length {
            head.set("content-length", length);
        }
        head.set("connection", "close");
        client.write_all(&head.bytes())?;
        // JSON that is valid as far as it goes: blanks.
        let blanks = [b' '; 65536];
        while client.write_all(&blanks).is_ok() {
            self.lock().bytes += blanks.len() as u64;
        }
        Ok(())
    }
}

/// The path of a request, without what follows a question mark.
fn upload_of(request: &Head) -> String {
    let path = request.first.split(' ').nth(1).unwrap_or_default();
    path.split('?').next().unwrap_or_default().to_owned()
}
