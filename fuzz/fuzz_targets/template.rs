//! Templates of `--format`: any text is refused or renders within its bounds, and values are only ever data.
#![no_main]

use ctr::cmd::template::Template;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let Ok(template) = Template::new(text, text.len().is_multiple_of(2)) else { return };
    let row = json!({
        "ID": "abc", "N": 3, "F": 1.5, "T": true, "Z": null, "L": ["a", "b"], "Labels": {"k": "{{.ID}}"},
        "State": {"Pid": 1}, "M": [{"A": "x"}, {"A": "\u{1b}"}],
    });
    // Of a template that names no value of the row nothing but its own text may come out.
    if let Ok(out) = template.render(&[row], nothing) {
        assert!(out.len() <= (16 << 20) + 1);
        assert!(!out.contains("{{.ID}}") || text.contains("ID"), "a value was taken for a template");
    }
});

fn nothing(_: &str) -> std::borrow::Cow<'_, str> {
    "".into()
}
