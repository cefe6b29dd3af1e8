//! The functions of a template: Go's own (text/template, "Functions") and those that Docker and Podman add.

use super::{datum::Datum, printf::sprintf};
use serde_json::Value;
use std::cmp::Ordering;

/// All there are.
pub const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "html", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or",
    "pad", "print", "printf", "println", "slice", "split", "title", "trim", "truncate", "upper",
];

/// The function called `name`.
pub fn named(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|known| **known == name).copied()
}

/// What `name` makes of `arguments`; an error says what is wrong with them. `and` and `or` are the evaluator's: they
/// don't evaluate all of theirs.
pub fn call<'v>(name: &str, arguments: &[Datum<'v>]) -> Result<Datum<'v>, String> {
    let words = |what: &dyn Fn(&[Datum<'_>]) -> String| Ok(Datum::from(what(arguments)));
    match (name, arguments) {
        ("print", _) => words(&print),
        ("println", _) => words(&|all| all.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n"),
        ("printf", [format, rest @ ..]) => Ok(sprintf(string(format)?, rest).into()),
        ("html", [value]) => Ok(escape_html(&shown(value)).into()),
        ("not", [value]) => Ok((!value.is_true()).into()),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            let equal = others.iter().map(|other| equal(first, other)).collect::<Result<Vec<_>, _>>()?;
            Ok(equal.contains(&true).into())
        }
        ("ne", [a, b]) => Ok((!equal(a, b)?).into()),
        ("lt", [a, b]) => Ok(compare(a, b)?.is_lt().into()),
        ("le", [a, b]) => Ok(compare(a, b)?.is_le().into()),
        ("gt", [a, b]) => Ok(compare(a, b)?.is_gt().into()),
        ("ge", [a, b]) => Ok(compare(a, b)?.is_ge().into()),
        ("len", [value]) => length(value).map(Datum::from),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds),
        ("json", [value]) => Ok(value.value.to_string().into()),
        ("join", [list, between]) => {
            let parts = match &*list.value {
                Value::Null => Vec::new(),
                Value::Array(_) => list.items().iter().map(|(_, item)| shown(item)).collect(),
                _ => return Err(format!("it joins a list, not {}", list.kind())),
            };
            Ok(parts.join(string(between)?).into())
        }
        ("split", [text, at]) => {
            let (text, at) = (string(text)?, string(at)?);
            let parts: Vec<Value> = match at {
                "" => text.chars().map(|c| c.to_string().into()).collect(),
                at => text.split(at).map(Value::from).collect(),
            };
            Ok(Value::Array(parts).into())
        }
        ("lower", [text]) => Ok(string(text)?.to_lowercase().into()),
        ("upper", [text]) => Ok(string(text)?.to_uppercase().into()),
        ("title", [text]) => Ok(title(string(text)?).into()),
        ("trim", [text]) => Ok(string(text)?.trim().into()),
        ("truncate", [text, length]) => {
            let length = whole(length)?;
            Ok(string(text)?.chars().take(length).collect::<String>().into())
        }
        ("pad", [text, before, after]) => {
            let (text, before, after) = (string(text)?, whole(before)?, whole(after)?);
            if before.saturating_add(after) > super::LIMIT {
                return Err("that many spaces are too many".to_owned());
            }
            let padded = || " ".repeat(before) + text + &" ".repeat(after);
            Ok(if text.is_empty() { String::new() } else { padded() }.into())
        }
        _ => Err(format!("it doesn't take {} arguments", arguments.len())),
    }
}

fn shown(value: &Datum<'_>) -> String {
    value.text("<nil>").into_owned()
}

/// Go puts a space between two operands when neither is a string.
fn print(all: &[Datum<'_>]) -> String {
    let mut out = String::new();
    for (at, value) in all.iter().enumerate() {
        if at > 0 && !value.value.is_string() && !all[at - 1].value.is_string() {
            out.push(' ');
        }
        out.push_str(&value.text("<nil>"));
    }
    out
}

fn string<'a>(value: &'a Datum<'_>) -> Result<&'a str, String> {
    value.value.as_str().ok_or_else(|| format!("it takes a string, not {}", value.kind()))
}

fn whole(value: &Datum<'_>) -> Result<usize, String> {
    let number = value.value.as_u64().and_then(|n| usize::try_from(n).ok());
    number.ok_or_else(|| format!("it takes a whole number, not {}", shown(value)))
}

fn length(value: &Datum<'_>) -> Result<usize, String> {
    match &*value.value {
        Value::Null => Ok(0),
        Value::String(text) => Ok(text.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(object) => Ok(object.len()),
        _ => Err(format!("{} has no length", value.kind())),
    }
}

/// A key that a map of strings hasn't is the empty string, as in Go.
fn index<'v>(value: &Datum<'v>, key: &Datum<'_>) -> Result<Datum<'v>, String> {
    match (&*value.value, &*key.value) {
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Null, _) => Err("an empty list has no elements".to_owned()),
        (Value::Object(object), Value::String(key)) => Ok(match value.field(key) {
            Some(found) => found,
            None if object.values().all(Value::is_string) => "".into(),
            None => Value::Null.into(),
        }),
        (Value::Array(list), Value::Number(_)) => {
            let missing = || format!("there is no element {} of {}", shown(key), list.len());
            value.element(whole(key).map_err(|_| missing())?).ok_or_else(missing)
        }
        (Value::String(text), Value::Number(_)) => {
            let byte = text.as_bytes().get(whole(key)?);
            byte.map(|byte| (*byte).into()).ok_or_else(|| format!("there is no byte {}", shown(key)))
        }
        _ => Err(format!("{} can't be indexed with {}", value.kind(), key.kind())),
    }
}

fn slice<'v>(value: &Datum<'v>, bounds: &[Datum<'_>]) -> Result<Datum<'v>, String> {
    let end = length(value)?;
    let from = bounds.first().map_or(Ok(0), whole)?;
    let to = bounds.get(1).map_or(Ok(end), whole)?;
    let wrong = || format!("{from} to {to} is outside of 0 to {end}");
    match &*value.value {
        Value::Array(list) => {
            list.get(from..to).map(|part| Value::Array(part.to_vec()).into()).ok_or_else(wrong)
        }
        // By bytes, as in Go; not through a character.
        Value::String(text) => text.get(from..to).map(Datum::from).ok_or_else(wrong),
        _ => Err(format!("{} can't be sliced", value.kind())),
    }
}

fn equal(a: &Datum<'_>, b: &Datum<'_>) -> Result<bool, String> {
    match (&*a.value, &*b.value) {
        (Value::Array(_) | Value::Object(_), other) | (other, Value::Array(_) | Value::Object(_)) => {
            match other {
                Value::Null => Ok(false),
                _ => Err("lists and objects can't be compared".to_owned()),
            }
        }
        (Value::Null, other) | (other, Value::Null) => Ok(other.is_null()),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        _ => compare(a, b).map(Ordering::is_eq),
    }
}

fn compare(a: &Datum<'_>, b: &Datum<'_>) -> Result<Ordering, String> {
    match (&*a.value, &*b.value) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(x), Value::Number(y)) => {
            let exact = |n: &serde_json::Number| n.as_i64().map(i128::from).or(n.as_u64().map(i128::from));
            let order = match (exact(x), exact(y)) {
                (Some(x), Some(y)) => Some(x.cmp(&y)),
                _ => x.as_f64().zip(y.as_f64()).and_then(|(x, y)| x.partial_cmp(&y)),
            };
            order.ok_or_else(|| "these numbers have no order".to_owned())
        }
        _ => Err(format!("{} and {} can't be compared", a.kind(), b.kind())),
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

fn escape_html(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}
