//! auth.json and config.json: any bytes are credentials, none, or a mistake that quotes nothing of them.
#![no_main]

use ctr::registry::credentials;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Err(mistake) = credentials::parse(text, "quay.io", "team/app") {
        assert!(format!("{mistake:#}").len() < 200, "{mistake:#}");
    }
});
