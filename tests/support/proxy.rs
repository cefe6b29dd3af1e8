//! A proxy as HTTP_PROXY and HTTPS_PROXY name one: it passes requests on, and tunnels (RFC 9110 section 9.3.6).

use super::http::Head;
use std::{
    io::{self, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Listens until the process ends. Whatever host it is asked for, it connects to one address.
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Head>>>,
}

impl Proxy {
    /// In front of `target`; with `refusal` it answers that to everything.
    pub fn new(target: SocketAddr, refusal: Option<&'static str>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Mutex<Vec<Head>>>::default();
        let noting = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let noting = noting.clone();
                thread::spawn(move || serve(stream, target, refusal, &noting));
            }
        });
        Proxy { address, seen }
    }

    /// For HTTP_PROXY.
    pub fn url(&self) -> String {
        format!("http://user:secret@{}", self.address)
    }

    /// The first lines of the requests so far.
    pub fn seen(&self) -> Vec<Head> {
        self.seen.lock().expect("no panic while held").clone()
    }
}

fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    refusal: Option<&str>,
    seen: &Mutex<Vec<Head>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let Some(mut head) = Head::read(&mut reader)? else { return Ok(()) };
    seen.lock().expect("no panic while held").push(head.clone());
    if let Some(refusal) = refusal {
        return write!(client, "HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n");
    }
    let mut server = TcpStream::connect(target)?;
    if head.first.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    } else {
        // http://host/path: the server wants the path alone. One request for each connection.
        let path = head.first.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
        let method = head.first.split(' ').next().unwrap_or_default();
        head.first = format!("{method} /{path}");
        head.set("connection", "close");
        server.write_all(&head.bytes())?;
    }
    let (mut up, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut reader, &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    io::copy(&mut server, &mut back)?;
    back.shutdown(Shutdown::Both)
}
