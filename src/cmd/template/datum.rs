//! What a template computes with: JSON as Go sees it. Go has structures, of which a field that isn't there is an error, and
//! maps, of which a key that isn't there has no value; in JSON both are objects.

use serde_json::{Map, Value};
use std::{borrow::Cow, fmt::Write as _};

/// Keys whose objects are maps in Docker's and Podman's types. An empty object is one, too.
const MAPS: &[&str] = &[
    "Annotations",
    "CgroupConf",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Label",
    "Labels",
    "Networks",
    "PortBindings",
    "Ports",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Go's own names of fields that JSON spells otherwise, as podman-inspect(1) takes them.
const OTHER_NAMES: &[(&str, &str)] =
    &[("Src", "Source"), ("Dst", "Destination"), ("ImageID", "Image"), ("Healthcheck", "Health")];

#[derive(Clone, Debug)]
pub struct Datum<'v> {
    pub value: Cow<'v, Value>,
    /// It is an object whose keys are data.
    pub is_map: bool,
}

impl<'v> Datum<'v> {
    /// `value` as the root, or as what a function made.
    pub fn of(value: Cow<'v, Value>) -> Datum<'v> {
        Datum { value, is_map: false }
    }

    /// The field or key `name`. Of a structure also in another case, where that is clear: `.ID` is `Id`.
    pub fn field(&self, name: &str) -> Option<Datum<'v>> {
        let object = self.value.as_object()?;
        let key = if object.contains_key(name) || self.is_map { name } else { similar(object, name)? };
        self.child(key, |value| value.get(key))
    }

    /// Element `index` of a list.
    pub fn element(&self, index: usize) -> Option<Datum<'v>> {
        self.child("", |value| value.get(index))
    }

    /// What a list or object holds, with its index or key.
    pub fn items(&self) -> Vec<(Value, Datum<'v>)> {
        match &*self.value {
            Value::Array(list) => {
                (0..list.len()).filter_map(|at| Some((at.into(), self.element(at)?))).collect()
            }
            Value::Object(map) => map
                .keys()
                .filter_map(|key| Some((key.as_str().into(), self.child(key, |v| v.get(key))?)))
                .collect(),
            _ => Vec::new(),
        }
    }

    fn child<'a>(
        &'a self,
        key: &str,
        get: impl for<'b> Fn(&'b Value) -> Option<&'b Value>,
    ) -> Option<Datum<'v>> {
        let is_map = MAPS.contains(&key) && !self.is_map;
        let value = match &self.value {
            Cow::Borrowed(value) => Cow::Borrowed(get(value)?),
            Cow::Owned(value) => Cow::Owned(get(value)?.clone()),
        };
        Some(Datum { value, is_map })
    }

    /// A key that isn't there has no value instead of being an error.
    pub fn has_free_keys(&self) -> bool {
        match &*self.value {
            Value::Null => true,
            Value::Object(object) => self.is_map || object.is_empty(),
            _ => false,
        }
    }

    /// Go's truth (text/template, "if").
    pub fn is_true(&self) -> bool {
        match &*self.value {
            Value::Null => false,
            Value::Bool(is) => *is,
            Value::Number(n) => n.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(object) => !object.is_empty(),
        }
    }

    /// As Go's `%v` prints it, with `null` in place of nothing.
    pub fn text(&self, null: &str) -> Cow<'_, str> {
        match &*self.value {
            Value::Null => null.to_owned().into(),
            Value::String(text) => text.into(),
            other => {
                let mut out = String::new();
                print(other, &mut out);
                out.into()
            }
        }
    }

    /// How an error calls its type.
    pub fn kind(&self) -> &'static str {
        match &*self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

impl<V: Into<Value>> From<V> for Datum<'_> {
    fn from(value: V) -> Self {
        Datum::of(Cow::Owned(value.into()))
    }
}

fn similar<'o>(object: &'o Map<String, Value>, name: &str) -> Option<&'o str> {
    let other = OTHER_NAMES.iter().find(|(own, _)| *own == name).map_or(name, |(_, other)| other);
    let mut found = object.keys().filter(|key| key.eq_ignore_ascii_case(other));
    found.next().filter(|_| found.next().is_none()).map(String::as_str)
}

fn print(value: &Value, out: &mut String) {
    let list = |out: &mut String, items: &mut dyn Iterator<Item = (Option<&String>, &Value)>| {
        for (at, (key, value)) in items.enumerate() {
            out.push_str(if at > 0 { " " } else { "" });
            if let Some(key) = key {
                let _ = write!(out, "{key}:");
            }
            print(value, out);
        }
    };
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(is) => out.push_str(if *is { "true" } else { "false" }),
        Value::Number(n) => out.push_str(&number(n)),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            list(out, &mut items.iter().map(|item| (None, item)));
            out.push(']');
        }
        Value::Object(object) => {
            out.push_str("map[");
            list(out, &mut object.iter().map(|(key, item)| (Some(key), item)));
            out.push(']');
        }
    }
}

/// Go's `%v` of a float has an exponent from 21 digits on.
fn number(n: &serde_json::Number) -> String {
    match n.as_f64().filter(|_| n.is_f64()) {
        Some(float) if float != 0.0 && !(1e-4..1e21).contains(&float.abs()) => {
            super::printf::exponent(float, None)
        }
        Some(float) => format!("{float}"),
        None => n.to_string(),
    }
}
