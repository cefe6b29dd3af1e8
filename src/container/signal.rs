//! Signals by name or number (signal(7)), as a user or an image writes them.

use anyhow::{Result, bail};
use std::{fmt, str::FromStr};

/// A signal's number, 1 to 64. Prints as `SIGTERM`, `SIGRTMIN+3`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal(i32);

impl Signal {
    /// Stops a container unless its image or its user chose another.
    pub const TERM: Signal = Signal(libc::SIGTERM);

    /// Nothing survives it.
    pub const KILL: Signal = Signal(libc::SIGKILL);

    /// The number that kill(2) takes.
    pub fn number(self) -> i32 {
        self.0
    }
}

// What user space calls SIGRTMIN: the C library keeps 32 and 33 for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl FromStr for Signal {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Signal> {
        match number(text) {
            Some(number @ 1..=RTMAX) => Ok(Signal(number)),
            _ => bail!("{:?} is no signal", text.chars().take(40).collect::<String>()),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(named) => f.write_str(named.as_str()),
            Err(_) if self.0 == RTMIN => f.write_str("SIGRTMIN"),
            Err(_) if self.0 > RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

fn number(text: &str) -> Option<i32> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(above) = name.strip_prefix("RTMIN") {
        return offset(above, '+').map(|n| RTMIN + n);
    }
    if let Some(below) = name.strip_prefix("RTMAX") {
        return offset(below, '-').map(|n| RTMAX - n);
    }
    let name = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

/// The n of `+n`; 0 of nothing. Within the real-time range.
fn offset(text: &str, sign: char) -> Option<i32> {
    let digits = match text {
        "" => "0",
        signed => signed.strip_prefix(sign)?,
    };
    let in_range = |n: &i32| *n <= RTMAX - RTMIN;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok().filter(in_range)).flatten()
}

/// The number of the signal that a record names; SIGTERM where it names none.
pub fn asking(name: &str) -> i32 {
    name.parse().map_or(libc::SIGTERM, Signal::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number, shown) in [
            ("SIGTERM", 15, "SIGTERM"),
            ("term", 15, "SIGTERM"),
            ("9", 9, "SIGKILL"),
            ("SIGRTMIN+3", 37, "SIGRTMIN+3"),
            ("rtmin", 34, "SIGRTMIN"),
            ("RTMAX", 64, "SIGRTMIN+30"),
            ("RTMAX-1", 63, "SIGRTMIN+29"),
            ("64", 64, "SIGRTMIN+30"),
            ("poll", 29, "SIGIO"),
        ] {
            let signal: Signal = text.parse().unwrap();
            assert_eq!((signal.number(), signal.to_string().as_str()), (number, shown), "{text}");
        }
        for bad in [
            "",
            "0",
            "65",
            "-1",
            "SIG",
            "SIGSIGTERM",
            "TERM ",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN+-1",
            "99999999999",
            "RTMIN+99999999999",
        ] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
    }
}
