//! As much of D-Bus as a talk with systemd needs (dbus.freedesktop.org, D-Bus Specification 0.43): calls of methods, their
//! answers, and signals.

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::geteuid,
};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

/// A connection to a message bus.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    unread: Vec<u8>,
}

/// A value of an argument.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// `s`
    Text(&'a str),
    /// `b`
    Truth(bool),
    /// `au`
    Numbers(&'a [u32]),
    /// `a(sv)`
    Properties(&'a [(&'a str, Value<'a>)]),
    /// `a(sa(sv))` without any.
    NoUnits,
}

/// What came in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// 2: an answer, 3: an error, 4: a signal.
    pub kind: u8,
    /// Of the call that it answers.
    pub reply_to: u32,
    /// The name of the signal or of the error.
    pub name: String,
    /// The strings among its arguments, in order; only from signatures of `s`, `o`, `u`, and a truth in a variant.
    pub texts: Vec<String>,
}

impl Bus {
    /// Connect to the bus whose socket is `path` and say hello.
    pub fn connect(path: &Path) -> Result<Bus> {
        let doing = || format!("connect to the message bus at {}", path.display());
        let stream = UnixStream::connect(path).with_context(doing)?;
        let mut bus = Bus { stream, serial: 0, unread: Vec::new() };
        // The answers are read later: one way less to wait for.
        let uid: String =
            geteuid().as_raw().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        bus.stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes()).with_context(doing)?;
        bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", &[])?;
        Ok(bus)
    }

    /// Call a method; the number of the call.
    pub fn call(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        arguments: &[Value<'_>],
    ) -> Result<u32> {
        self.serial += 1;
        let (mut body, mut signature) = (Vec::new(), String::new());
        for argument in arguments {
            signature.push_str(argument.signature());
            argument.write(&mut body);
        }
        let mut message = vec![b'l', 1, 0, 1];
        number(&mut message, body.len() as u32);
        number(&mut message, self.serial);
        let start = begin_array(&mut message, 8);
        for (code, kind, text) in [
            (1, "o", path),
            (2, "s", interface),
            (3, "s", member),
            (6, "s", destination),
            (8, "g", &signature),
        ] {
            if kind == "g" && text.is_empty() {
                continue;
            }
            pad(&mut message, 8);
            message.push(code);
            write_signature(&mut message, kind);
            if kind == "g" { write_signature(&mut message, text) } else { write_text(&mut message, text) }
        }
        end_array(&mut message, start);
        pad(&mut message, 8);
        message.extend(body);
        self.stream.write_all(&message).with_context(|| format!("call {member} of {destination}"))?;
        Ok(self.serial)
    }

    /// The next message, until `due`.
    pub fn next(&mut self, due: Instant) -> Result<Message> {
        loop {
            self.skip_authentication()?;
            if let Some((message, length)) = parse(&self.unread)? {
                self.unread.drain(..length);
                return Ok(message);
            }
            let left = due.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the message bus says nothing");
            let left = Timespec::try_from(left.min(Duration::from_secs(60))).ok();
            poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], left.as_ref()).context("poll")?;
            let mut chunk = [0; 4096];
            let mut reader = &self.stream;
            self.stream.set_nonblocking(true)?;
            let read = reader.read(&mut chunk);
            self.stream.set_nonblocking(false)?;
            match read {
                Ok(0) => bail!("the message bus hung up"),
                Ok(length) => self.unread.extend(&chunk[..length]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e).context("read from the message bus"),
            }
        }
    }

    /// `OK …` of the authentication comes before all messages, which begin with `l` or `B`.
    fn skip_authentication(&mut self) -> Result<()> {
        if self.unread.starts_with(b"R") {
            bail!("the message bus rejects us");
        }
        if self.unread.starts_with(b"OK")
            && let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n")
        {
            self.unread.drain(..end + 2);
        }
        Ok(())
    }
}

impl Value<'_> {
    fn signature(self) -> &'static str {
        match self {
            Value::Text(_) => "s",
            Value::Truth(_) => "b",
            Value::Numbers(_) => "au",
            Value::Properties(_) => "a(sv)",
            Value::NoUnits => "a(sa(sv))",
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Value::Text(text) => write_text(out, text),
            Value::Truth(truth) => number(out, truth.into()),
            Value::Numbers(values) => {
                let start = begin_array(out, 4);
                values.iter().for_each(|value| number(out, *value));
                end_array(out, start);
            }
            Value::Properties(properties) => {
                let start = begin_array(out, 8);
                for (name, value) in properties {
                    pad(out, 8);
                    write_text(out, name);
                    write_signature(out, value.signature());
                    value.write(out);
                }
                end_array(out, start);
            }
            Value::NoUnits => {
                let start = begin_array(out, 8);
                end_array(out, start);
            }
        }
    }
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn number(out: &mut Vec<u8>, value: u32) {
    pad(out, 4);
    out.extend(value.to_le_bytes());
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len() as u32);
    out.extend(text.as_bytes());
    out.push(0);
}

fn write_signature(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
    out.push(0);
}

/// Where the array's elements begin; its length is written at the end.
fn begin_array(out: &mut Vec<u8>, alignment: usize) -> (usize, usize) {
    number(out, 0);
    let length = out.len() - 4;
    pad(out, alignment);
    (length, out.len())
}

fn end_array(out: &mut [u8], (length, start): (usize, usize)) {
    let bytes = (out.len() - start) as u32;
    out[length..length + 4].copy_from_slice(&bytes.to_le_bytes());
}

/// Messages that are longer are not for us.
const LONGEST: usize = 1 << 20;

/// The first message of `bytes` and its length; `None` when there is more to come.
fn parse(bytes: &[u8]) -> Result<Option<(Message, usize)>> {
    let Some(head) = bytes.get(..16) else { return Ok(None) };
    ensure!(head[0] == b'l' && head[3] == 1, "the message bus speaks another dialect");
    let at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (body, fields) = (at(4), at(12));
    ensure!(body <= LONGEST && fields <= LONGEST, "the message bus sends too much");
    let start = (16 + fields).next_multiple_of(8);
    let Some(bytes) = bytes.get(..start + body) else { return Ok(None) };
    let mut message = Message { kind: head[1], ..Message::default() };
    let mut signature = String::new();
    let mut reader = Reader { bytes: &bytes[..16 + fields], at: 16 };
    while reader.at < 16 + fields {
        reader.align(8);
        if reader.at >= 16 + fields {
            break;
        }
        let code = reader.byte()?;
        let kind = reader.signature()?;
        match (code, kind.as_str()) {
            (5, "u") => message.reply_to = reader.number()?,
            (3 | 4, "s") => message.name = reader.text()?,
            (8, "g") => signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.number()?),
            (_, other) => bail!("the message bus sends a header field of type {other:?}"),
        }
    }
    let mut reader = Reader { bytes, at: start };
    for kind in signature.chars() {
        match kind {
            's' | 'o' => message.texts.push(reader.text()?),
            'u' => drop(reader.number()?),
            'v' if reader.signature()? == "b" => message.texts.push((reader.number()? == 1).to_string()),
            _ => break,
        }
    }
    Ok(Some((message, bytes.len())))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(length).ok_or_else(|| anyhow!("the message bus sends nonsense"))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| anyhow!("the message bus sends nonsense"))?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn signature(&mut self) -> Result<String> {
        let length = self.byte()?.into();
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signal as dbus-daemon sends it, made by hand after the specification.
    fn signal() -> Vec<u8> {
        let mut body = Vec::new();
        number(&mut body, 7);
        write_text(&mut body, "/job/7");
        write_text(&mut body, "a.scope");
        write_text(&mut body, "done");
        let mut message = vec![b'l', 4, 1, 1];
        number(&mut message, body.len() as u32);
        number(&mut message, 9);
        let start = begin_array(&mut message, 8);
        for (code, kind, text) in [(3, "s", "JobRemoved"), (7, "s", ":1.1"), (8, "g", "uoss")] {
            pad(&mut message, 8);
            message.push(code);
            write_signature(&mut message, kind);
            if kind == "g" { write_signature(&mut message, text) } else { write_text(&mut message, text) }
        }
        end_array(&mut message, start);
        pad(&mut message, 8);
        message.extend(body);
        message
    }

    #[test]
    fn messages() {
        let message = signal();
        for length in 0..message.len() {
            assert_eq!(parse(&message[..length]).unwrap(), None, "{length}");
        }
        let (parsed, length) = parse(&[&message[..], b"more"].concat()).unwrap().unwrap();
        assert_eq!(length, message.len());
        assert_eq!((parsed.kind, parsed.name.as_str()), (4, "JobRemoved"));
        assert_eq!(parsed.texts, ["/job/7", "a.scope", "done"]);
        let mut bad = message;
        bad[16..].fill(0xff);
        assert!(parse(&bad).is_err());
        bad[4..8].fill(0xff);
        assert!(parse(&bad).is_err());
    }

    #[test]
    fn arguments() {
        let mut out = Vec::new();
        Value::Properties(&[("PIDs", Value::Numbers(&[1, 2])), ("Delegate", Value::Truth(true))])
            .write(&mut out);
        let expected: &[&[u8]] = &[
            b"\x34\0\0\0\0\0\0\0",
            b"\x04\0\0\0PIDs\0\x02au\0\0\0\0\x08\0\0\0\x01\0\0\0\x02\0\0\0",
            b"\0\0\0\0",
            b"\x08\0\0\0Delegate\0\x01b\0\x01\0\0\0",
        ];
        assert_eq!(out, expected.concat());
    }
}
