//! Go's fmt.Sprintf, for what JSON can hold.

use super::datum::Datum;
use serde_json::Value;

/// Go refuses a width or precision beyond this, too.
const WIDEST: usize = 1_000_000;

#[derive(Default)]
struct Directive {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `format` with `arguments`; what doesn't fit is said in the result, as Go does.
pub fn sprintf(format: &str, arguments: &[Datum<'_>]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some((text, after)) = rest.split_once('%') {
        out.push_str(text);
        let (directive, after) = directive(after);
        let Some(verb) = after.chars().next() else {
            return out + "%!(NOVERB)";
        };
        rest = &after[verb.len_utf8()..];
        if directive.width.max(directive.precision).is_some_and(|n| n > WIDEST) {
            out.push_str("%!(BADWIDTH)");
        } else if verb == '%' {
            out.push('%');
        } else if let Some(argument) = arguments.next() {
            out.push_str(&pad(&directive, verb, convert(&directive, verb, argument)));
        } else {
            out.push_str(&format!("%!{verb}(MISSING)"));
        }
        if out.len() > super::LIMIT {
            return out;
        }
    }
    out.push_str(rest);
    let extra: Vec<_> = arguments.map(named).collect();
    if extra.is_empty() { out } else { format!("{out}%!(EXTRA {})", extra.join(", ")) }
}

fn directive(text: &str) -> (Directive, &str) {
    let mut found = Directive::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next() {
        match flag {
            '-' => found.minus = true,
            '+' => found.plus = true,
            '#' => found.sharp = true,
            ' ' => found.space = true,
            '0' => found.zero = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    (found.width, rest) = digits(rest);
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = digits(after);
        (found.precision, rest) = (Some(precision.unwrap_or(0)), after);
    }
    (found, rest)
}

fn digits(text: &str) -> (Option<usize>, &str) {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number = (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX));
    (number, rest)
}

fn convert(with: &Directive, verb: char, argument: &Datum<'_>) -> String {
    let wrong = || format!("%!{verb}({})", named(argument));
    match (verb, &*argument.value) {
        ('v', Value::String(_)) | ('s', _)
            if !matches!(&*argument.value, Value::Number(_) | Value::Bool(_)) =>
        {
            cut(with, &argument.text("<nil>"))
        }
        ('v', Value::String(text)) | ('q', Value::String(text)) if verb == 'q' => quote(&cut(with, text)),
        ('v', Value::Number(n)) if !n.is_f64() => integer(with, 'd', n.as_i64().map_or(0, i128::from)),
        ('v', _) => argument.text("<nil>").into_owned(),
        ('t', Value::Bool(is)) => is.to_string(),
        ('x' | 'X', Value::String(text)) => {
            let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            if verb == 'X' { hex.to_uppercase() } else { hex }
        }
        ('d' | 'x' | 'X' | 'o' | 'b' | 'c' | 'q' | 'U', Value::Number(n)) if !n.is_f64() => {
            let value = n.as_i64().map(i128::from).or(n.as_u64().map(i128::from)).unwrap_or_default();
            integer(with, verb, value)
        }
        ('f' | 'F' | 'e' | 'g', Value::Number(n)) if n.is_f64() => {
            let value = n.as_f64().unwrap_or_default();
            signed(
                with,
                value < 0.0,
                match verb {
                    'e' => exponent(value.abs(), Some(with.precision.unwrap_or(6))),
                    'g' => Datum::from(value.abs()).text("").into_owned(),
                    _ => format!("{:.*}", with.precision.unwrap_or(6), value.abs()),
                },
            )
        }
        ('d' | 't' | 'f' | 'q' | 'x', Value::Array(items)) => {
            let each = items.iter().map(|item| convert(with, verb, &item.clone().into()));
            format!("[{}]", each.collect::<Vec<_>>().join(" "))
        }
        _ => wrong(),
    }
}

fn integer(with: &Directive, verb: char, value: i128) -> String {
    let size = value.unsigned_abs();
    let character =
        || u32::try_from(value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    let digits = match verb {
        'x' => format!("{}{size:x}", if with.sharp { "0x" } else { "" }),
        'X' => format!("{}{size:X}", if with.sharp { "0X" } else { "" }),
        'o' => format!("{}{size:o}", if with.sharp { "0" } else { "" }),
        'b' => format!("{}{size:b}", if with.sharp { "0b" } else { "" }),
        'U' => return format!("U+{size:04X}"),
        'c' => return character().to_string(),
        'q' => return format!("'{}'", character().escape_debug()),
        _ => size.to_string(),
    };
    let missing = with.precision.unwrap_or(0).saturating_sub(digits.len());
    signed(with, value < 0, "0".repeat(missing) + &digits)
}

fn signed(with: &Directive, negative: bool, digits: String) -> String {
    let sign = match (negative, with.plus, with.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    let length = sign.len() + digits.len();
    let zeros = if with.zero && !with.minus { with.width.unwrap_or(0).saturating_sub(length) } else { 0 };
    format!("{sign}{}{digits}", "0".repeat(zeros))
}

fn pad(with: &Directive, _verb: char, text: String) -> String {
    let missing = " ".repeat(with.width.unwrap_or(0).saturating_sub(text.chars().count()));
    if with.minus { text + &missing } else { missing + &text }
}

fn cut(with: &Directive, text: &str) -> String {
    with.precision.map_or_else(|| text.to_owned(), |length| text.chars().take(length).collect())
}

/// Go's exponent has a sign and two digits.
pub fn exponent(value: f64, precision: Option<usize>) -> String {
    let text = precision.map_or_else(|| format!("{value:e}"), |precision| format!("{value:.precision$e}"));
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
    format!("{digits}e{sign}{size:0>2}")
}

/// A string between double quotes, as Go's strconv.Quote writes it.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() && u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Type and value, as in Go's complaints.
fn named(argument: &Datum<'_>) -> String {
    let kind = match &*argument.value {
        Value::Null => return "<nil>".to_owned(),
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    format!("{kind}={}", argument.text("<nil>"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn verbs() {
        for (format, arguments, expected) in [
            ("%s-%d", json!(["a", 3]), "a-3"),
            ("%-5s|%5s|", json!(["a", "b"]), "a    |    b|"),
            ("%05d|%+d|% d", json!([-42, 7, 7]), "-0042|+7| 7"),
            ("%x %X %#x %o %b", json!([255, 255, 255, 8, 5]), "ff FF 0xff 10 101"),
            ("%q %q", json!(["a\"\n", 97]), "\"a\\\"\\n\" 'a'"),
            ("%v %v %v %v", json!(["a", 1, true, null]), "a 1 true <nil>"),
            ("%v %s", json!([["a", 1], ["b"]]), "[a 1] [b]"),
            ("%v", json!([{"b": 1, "a": "x"}]), "map[a:x b:1]"),
            ("%.2f|%8.3f|%e", json!([1.5, 2.34567, 1500.0]), "1.50|   2.346|1.500000e+03"),
            ("%.2s", json!(["äbc"]), "äb"),
            ("%x", json!(["hi"]), "6869"),
            ("%c%U", json!([233, 233]), "éU+00E9"),
            ("100%%", json!([]), "100%"),
            ("%d", json!(["a"]), "%!d(string=a)"),
            ("%s", json!([3]), "%!s(int=3)"),
            ("%d %d", json!([1]), "1 %!d(MISSING)"),
            ("%d", json!([1, "b"]), "1%!(EXTRA string=b)"),
            ("a%", json!([]), "a%!(NOVERB)"),
            ("%99999999999s", json!(["a"]), "%!(BADWIDTH)%!(EXTRA string=a)"),
            ("%é", json!(["a"]), "%!é(string=a)"),
            ("%t", json!([false]), "false"),
        ] {
            let arguments: Vec<Datum<'_>> =
                arguments.as_array().into_iter().flatten().map(|value| value.clone().into()).collect();
            assert_eq!(sprintf(format, &arguments), expected, "{format}");
        }
    }
}
