//! A template as text and actions, an action as tokens (Go's text/template, "Text and spaces" and "Actions").

use super::Fault;
use serde_json::{Number, Value};

/// What a template is made of.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Goes out as it is.
    Text(String),
    /// Between `{{` and `}}`; a comment has no tokens.
    Action {
        /// Where it begins, in bytes.
        at: usize,
        tokens: Vec<Token>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Where it begins, in bytes.
    pub at: usize,
    /// White space is before it: `.A .B` are two values, `.A.B` is one.
    pub spaced: bool,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `.Name`, without the dot.
    Field(String),
    /// `$name`, with the dollar.
    Variable(String),
    /// A function or a keyword.
    Word(String),
    /// A string, number or character.
    Constant(Value),
    Dot,
    Pipe,
    Comma,
    Open,
    Close,
    Declare,
    Assign,
}

/// Cut `source` up.
///
/// # Errors
/// An action or a string without its end, or what is no token.
pub fn lex(source: &str) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim = false;
    while at < source.len() {
        let open = source[at..].find("{{").map(|found| at + found);
        let mut text = &source[at..open.unwrap_or(source.len())];
        let mut inside = open.map_or(source.len(), |open| open + 2);
        if trim {
            text = text.trim_start_matches(SPACE);
        }
        if open.is_some() && source[inside..].starts_with('-') && source[inside + 1..].starts_with(SPACE) {
            text = text.trim_end_matches(SPACE);
            inside += 1;
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let Some(open) = open else { break };
        let mut action = Action { source, at: inside, open };
        let tokens = if source[inside..].trim_start_matches(SPACE).starts_with("/*") {
            action.comment()?;
            Vec::new()
        } else {
            action.tokens()?
        };
        trim = source[..action.at - 2].ends_with('-') && source[..action.at - 3].ends_with(SPACE);
        at = action.at;
        pieces.push(Piece::Action { at: open, tokens });
    }
    Ok(pieces)
}

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// An action that is being read.
struct Action<'s> {
    source: &'s str,
    /// Where the reader is; behind `}}` at the end.
    at: usize,
    open: usize,
}

impl Action<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let Some(end) = self.rest().find("*/") else {
            return Err(Fault::new(self.open, "the comment has no end"));
        };
        self.at += end + 2;
        let rest = self.rest();
        let close = rest.trim_start_matches(SPACE);
        let close = close.strip_prefix("-").filter(|_| rest.starts_with(SPACE)).unwrap_or(close);
        if !close.starts_with("}}")
            || (!rest.starts_with("}}") && !rest.trim_start_matches(SPACE).starts_with('-'))
        {
            return Err(Fault::new(self.at, "a comment ends right before its `}}`"));
        }
        self.at = self.source.len() - close.len() + 2;
        Ok(())
    }

    fn tokens(&mut self) -> Result<Vec<Token>, Fault> {
        let mut tokens = Vec::new();
        loop {
            let rest = self.rest();
            let spaced = rest.starts_with(SPACE);
            self.at += rest.len() - rest.trim_start_matches(SPACE).len();
            let (at, rest) = (self.at, self.rest());
            if rest.starts_with("}}") || (spaced && rest.starts_with("-}}")) {
                self.at += if rest.starts_with('-') { 3 } else { 2 };
                return Ok(tokens);
            }
            let kind = self.token()?;
            tokens.push(Token { at, spaced, kind });
        }
    }

    fn token(&mut self) -> Result<Kind, Fault> {
        let rest = self.rest();
        let mut chars = rest.chars();
        let (first, second) = (chars.next(), chars.next());
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let (length, kind) = match (first, second) {
            (None, _) => return Err(Fault::new(self.open, "the action has no `}}`")),
            (Some('|'), _) => (1, Kind::Pipe),
            (Some(','), _) => (1, Kind::Comma),
            (Some('('), _) => (1, Kind::Open),
            (Some(')'), _) => (1, Kind::Close),
            (Some(':'), Some('=')) => (2, Kind::Declare),
            (Some('='), _) => (1, Kind::Assign),
            (Some('"'), _) => return self.quoted('"').map(|text| Kind::Constant(Value::String(text))),
            (Some('`'), _) => {
                let text = rest[1..].split_once('`');
                let text = text.ok_or_else(|| Fault::new(self.at, "the string has no end"))?.0;
                (text.len() + 2, Kind::Constant(text.into()))
            }
            (Some('\''), _) => return self.character(),
            (Some('.'), c) if c.is_some_and(is_letter) => {
                let name = word(&rest[1..]);
                (name.len() + 1, Kind::Field(name.to_owned()))
            }
            (Some('.'), c) if !digit(c) => (1, Kind::Dot),
            (Some('$'), _) => {
                let name = word(&rest[1..]);
                (name.len() + 1, Kind::Variable(rest[..=name.len()].to_owned()))
            }
            (Some('0'..='9' | '.'), _) => return self.number(),
            (Some('+' | '-'), c) if digit(c) || c == Some('.') => return self.number(),
            (Some(c), _) if is_letter(c) => {
                let name = word(rest);
                (name.len(), Kind::Word(name.to_owned()))
            }
            (Some(c), _) => return Err(Fault::new(self.at, format!("unexpected {c:?}"))),
        };
        self.at += length;
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind, Fault> {
        let rest = self.rest();
        let part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_');
        let sign = usize::from(rest.starts_with(['+', '-']));
        let mut length = sign + rest[sign..].find(|c| !part(c)).unwrap_or(rest.len() - sign);
        // The sign of an exponent.
        if rest[..length].ends_with(['e', 'E'])
            && rest[length..].starts_with(['+', '-'])
            && !rest.contains("0x")
        {
            let tail = &rest[length + 1..];
            length += 1 + tail.find(|c| !part(c)).unwrap_or(tail.len());
        }
        let text = &rest[..length];
        let value = number(text).ok_or_else(|| Fault::new(self.at, format!("{text:?} is no number")))?;
        self.at += length;
        Ok(Kind::Constant(Value::Number(value)))
    }

    fn character(&mut self) -> Result<Kind, Fault> {
        let at = self.at;
        let text = self.quoted('\'')?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Kind::Constant(u32::from(c).into())),
            _ => Err(Fault::new(at, "one character goes between single quotes")),
        }
    }

    /// A string with the escapes of Go (its specification, "Rune literals").
    fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let unfinished = || Fault::new(self.at, "the string has no end");
        let mut text = String::new();
        let mut chars = self.source[self.at + 1..].char_indices();
        loop {
            let (_, c) = chars.next().filter(|(_, c)| *c != '\n').ok_or_else(unfinished)?;
            if c == quote {
                break;
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let (_, c) = chars.next().ok_or_else(unfinished)?;
            let digits = match c {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            text.push(match c {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'a' => '\x07',
                'b' => '\x08',
                'f' => '\x0c',
                'v' => '\x0b',
                '\\' => '\\',
                c if c == quote => c,
                'x' | 'u' | 'U' => {
                    let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                    let code = u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits);
                    code.and_then(char::from_u32)
                        .ok_or_else(|| Fault::new(self.at, "no character has that code"))?
                }
                c => return Err(Fault::new(self.at, format!("the escape \\{c} is unknown"))),
            });
        }
        self.at = self.source.len() - chars.as_str().len();
        Ok(text)
    }
}

fn is_letter(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !(c == '_' || c.is_alphanumeric())).unwrap_or(text.len())]
}

fn number(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let plain = digits.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    let radix = [("0x", 16), ("0b", 2), ("0o", 8)];
    let integer = match radix.iter().find_map(|(prefix, radix)| Some((lower.strip_prefix(prefix)?, *radix))) {
        Some((digits, radix)) => Some(i64::from_str_radix(digits, radix).ok()?),
        None => lower.parse::<u64>().ok().and_then(|n| i64::try_from(n).ok()),
    };
    match integer {
        Some(n) => Some(if negative { -n } else { n }.into()),
        None if lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            let n: f64 = lower.parse().ok()?;
            Number::from_f64(if negative { -n } else { n })
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kinds(source: &str) -> Option<Vec<Kind>> {
        let pieces = lex(source).ok()?;
        let tokens = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Action { tokens, .. } => Some(tokens),
            Piece::Text(_) => None,
        });
        Some(tokens.flatten().map(|token| token.kind).collect())
    }

    #[test]
    fn texts() {
        for (source, texts) in [
            ("a {{- .X -}} b", vec!["a", "b"]),
            ("a {{-.X}}", vec![]),
            ("a {{.X}} b", vec!["a ", " b"]),
            ("a\n\t{{/* x }} */}}\nb", vec!["a\n\t", "\nb"]),
            ("a {{- /* x */ -}} b", vec!["a", "b"]),
            ("{{`}}`}}x", vec!["x"]),
            ("}}{", vec!["}}{"]),
            ("", vec![]),
        ] {
            let pieces = lex(source).unwrap_or_default();
            let found = pieces.iter().filter_map(|piece| match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Action { .. } => None,
            });
            assert_eq!(found.collect::<Vec<_>>(), texts, "{source}");
        }
    }

    #[test]
    fn constants() {
        for (source, value) in [
            (r#""a\t\"é\x41""#, Some(json!("a\t\"éA"))),
            ("`a\\n`", Some(json!("a\\n"))),
            ("'a'", Some(json!(97))),
            ("'\\n'", Some(json!(10))),
            ("-12", Some(json!(-12))),
            ("0x1F", Some(json!(31))),
            ("1_000", Some(json!(1000))),
            ("1.5e3", Some(json!(1500.0))),
            ("1e-3", Some(json!(0.001))),
            ("1x", None),
            ("'ab'", None),
            (r#""\q""#, None),
            (r#""\u12""#, None),
            ("\"a", None),
            ("`a", None),
            ("#", None),
        ] {
            let expected = value.map(|value| vec![Kind::Constant(value)]);
            assert_eq!(kinds(&format!("{{{{{source}}}}}")), expected, "{source}");
        }
    }

    #[test]
    fn without_an_end() {
        for source in ["{{", "{{.X", "{{/* x", "{{/* x */ y}}", "{{- ", "{{-", "{{.X -"] {
            assert!(lex(source).is_err(), "{source}");
        }
    }
}
