//! Lines of log files: any bytes are a line or none, and what is written is read again.
#![no_main]

use ctr::monitor::log_line::{Entry, Format, Kind, lines};
use libfuzzer_sys::fuzz_target;

const STAMP: &str = "2026-01-02T03:04:05.678901234+00:00";

fuzz_target!(|bytes: &[u8]| {
    let mut entry = Entry::default();
    for format in [Format::Kubernetes, Format::Docker] {
        for raw in bytes.split(|byte| *byte == b'\n') {
            if format.decode(raw, &mut entry) {
                let _ = entry.time();
            }
        }
        for line in lines(bytes) {
            let mut file = Vec::new();
            format.encode(STAMP, Kind::Stderr, line, &mut file);
            let raw = file.strip_suffix(b"\n").expect("a line");
            assert!(!raw.contains(&b'\n') && format.decode(raw, &mut entry), "{raw:?}");
            assert_eq!((entry.kind, entry.stamp.as_str(), entry.whole), (Kind::Stderr, STAMP, line.ends_with(b"\n")));
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            match format {
                Format::Kubernetes => assert_eq!(entry.text, text),
                // JSON holds text only.
                Format::Docker => assert_eq!(String::from_utf8_lossy(&entry.text), String::from_utf8_lossy(text)),
            }
        }
    }
});
