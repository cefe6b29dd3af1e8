//! Words as systemd splits them off a line (systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting"). Specifiers
//! and variables are left to systemd. Pure.

use anyhow::{Context, Result, bail};
use std::{iter::Peekable, str::Chars};

/// Split a command line, resolving quotes and escapes.
///
/// # Errors
/// A quote that is not closed, or an escape that systemd doesn't know.
pub fn split(text: &str) -> Result<Vec<String>> {
    words(text, true)
}

/// Split a list: quotes hold words together, a backslash is one.
pub fn split_list(text: &str) -> Result<Vec<String>> {
    words(text, false)
}

/// Write `word` so that systemd reads it as one word again; one that needs no quotes stays as it is.
pub fn quote(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\'' | '\\');
    if !word.is_empty() && !word.starts_with(';') && word.chars().all(plain) {
        return word.to_owned();
    }
    let inner = word.chars().fold(String::new(), |mut inner, c| {
        match c {
            '"' | '\\' => inner.extend(['\\', c]),
            '\n' => inner.push_str("\\n"),
            '\t' => inner.push_str("\\t"),
            c if c.is_control() => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| inner.push_str(&format!("\\x{b:02x}")));
            }
            c => inner.push(c),
        }
        inner
    });
    format!("\"{inner}\"")
}

/// A command line of `words`.
pub fn line(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// Text that is no unit's: systemd finds no specifier in it.
pub fn literal(text: &str) -> String {
    text.replace('%', "%%")
}

fn words(text: &str, escapes: bool) -> Result<Vec<String>> {
    let mut rest = text.chars().peekable();
    let mut words = Vec::new();
    loop {
        while rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(words);
        }
        words.push(word(&mut rest, escapes).with_context(|| format!("{:?}", clip(text)))?);
    }
}

fn word(rest: &mut Peekable<Chars>, escapes: bool) -> Result<String> {
    let mut bytes = Vec::new();
    let mut open = None;
    while let Some(c) = rest.next_if(|c| open.is_some() || !c.is_ascii_whitespace()) {
        match c {
            '\0' => bail!("a NUL byte"),
            '\\' if escapes => escape(rest, &mut bytes)?,
            '"' | '\'' if open.is_none() => open = Some(c),
            c if open == Some(c) => open = None,
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    if let Some(quote) = open {
        bail!("{quote} is not closed");
    }
    String::from_utf8(bytes).context("not UTF-8")
}

/// What follows a backslash.
fn escape(rest: &mut Peekable<Chars>, bytes: &mut Vec<u8>) -> Result<()> {
    let kind = rest.next().context("a backslash at the end")?;
    let mut digits = |count: usize, radix: u32, first: &str| {
        let text: String = first.chars().chain(rest.by_ref().take(count)).collect();
        let whole = text.len() == first.len() + count && text.chars().all(|c| c.is_digit(radix));
        let number = u32::from_str_radix(&text, radix).ok().filter(|number| whole && *number > 0);
        number.with_context(|| format!("\\{kind}{text} is no escape"))
    };
    let short = |byte: u32| u8::try_from(byte).with_context(|| format!("\\{kind} of more than a byte"));
    bytes.push(match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        's' => b' ',
        '\\' | '"' | '\'' => kind as u8,
        'x' => short(digits(2, 16, "")?)?,
        '0'..='7' => short(digits(2, 8, &kind.to_string())?)?,
        'u' | 'U' => {
            let number = digits(if kind == 'u' { 4 } else { 8 }, 16, "")?;
            let c = char::from_u32(number).context("no character of Unicode")?;
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            return Ok(());
        }
        _ => bail!("\\{kind} is no escape"),
    });
    Ok(())
}

fn clip(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_as_systemd_does() {
        for (text, expected) in [
            ("", &[][..]),
            ("  a  b\tc ", &["a", "b", "c"]),
            (r#"a "b c" 'd "e"'"#, &["a", "b c", "d \"e\""]),
            (r#"A="b c"d ''"#, &["A=b cd", ""]),
            (r"a\sb \x41\102 \u00e9 \\ \'", &["a b", "AB", "é", "\\", "'"]),
            (r"\xc3\xa9", &["é"]),
            ("%i $HOME ${X} ;", &["%i", "$HOME", "${X}", ";"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        for bad in
            ["it's", "a\0", "a \"b", "\\", "\\q", "\\x4", "\\xzz", "\\x00", "\\ud800", "\\777", "\\xff"]
        {
            assert!(split(bad).is_err(), "{bad}");
        }
        assert_eq!(split_list(r#"a\b "c d" \q"#).unwrap(), ["a\\b", "c d", "\\q"]);
    }

    #[test]
    fn quoted_and_split_it_is_the_same() {
        for (word, expected) in [
            ("plain/%i:$X=é", "plain/%i:$X=é"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            (";", "\";\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("it's\n\t\u{1}\u{85}", "\"it's\\n\\t\\x01\\xc2\\x85\""),
        ] {
            assert_eq!(quote(word), expected);
            assert_eq!(split(expected).unwrap(), [word]);
        }
        assert_eq!(literal("/srv/100%/x"), "/srv/100%%/x");
    }

    proptest::proptest! {
        #[test]
        fn any_words_are_quoted_and_split_again(words: Vec<String>) {
            let words: Vec<String> = words.into_iter().map(|word| word.replace('\0', "")).collect();
            proptest::prop_assert_eq!(split(&line(&words)).unwrap(), words);
        }
    }
}
