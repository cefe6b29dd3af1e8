//! Instructions of a Dockerfile that change an image's configuration (podman-commit(1), `--change`). Pure.

use crate::error::Explain;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// One of them, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `Cmd` or `Entrypoint`.
    Program(&'static str, Vec<String>),
    /// Variables.
    Env(Vec<(String, String)>),
    /// Ports, each with its protocol.
    Expose(Vec<String>),
    /// Labels.
    Label(Vec<(String, String)>),
    /// `User`, `WorkingDir` or `StopSignal`.
    Text(&'static str, String),
    /// For who builds on the image.
    OnBuild(String),
    /// Directories.
    Volume(Vec<String>),
}

impl FromStr for Instruction {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Instruction> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let value = rest.trim_start().strip_prefix('=').unwrap_or(rest).trim();
        let invalid = |why: &str| anyhow!("{text:?} is no instruction: {why}");
        if value.is_empty() {
            return Err(invalid("it has no value")).hint("write INSTRUCTION VALUE, as in a Dockerfile");
        }
        let instruction = match word.to_ascii_uppercase().as_str() {
            "CMD" => Instruction::Program("Cmd", program(value)),
            "ENTRYPOINT" => Instruction::Program("Entrypoint", program(value)),
            "ENV" => Instruction::Env(pairs(value)?),
            "LABEL" => Instruction::Label(pairs(value)?),
            "EXPOSE" => {
                Instruction::Expose(words(value)?.iter().map(|word| port(word)).collect::<Result<_>>()?)
            }
            "USER" => Instruction::Text("User", value.to_owned()),
            "WORKDIR" => Instruction::Text("WorkingDir", value.to_owned()),
            "STOPSIGNAL" => Instruction::Text("StopSignal", value.to_owned()),
            "ONBUILD" => Instruction::OnBuild(value.to_owned()),
            "VOLUME" => Instruction::Volume(match array(value) {
                Some(list) => list,
                None => words(value)?,
            }),
            other => {
                return Err(anyhow!("{other:?} is no instruction that changes a configuration")).hint(
                    "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR are",
                );
            }
        };
        Ok(instruction)
    }
}

impl Instruction {
    /// Apply it to the `config` of an image configuration (image-spec, config.md).
    pub fn apply(&self, config: &mut Map<String, Value>) {
        match self {
            Instruction::Program(field, words) => {
                config.insert((*field).into(), json!(words));
                // Docker's rule: a command is meant for its entry point.
                if *field == "Entrypoint" {
                    config.remove("Cmd");
                }
            }
            Instruction::Env(pairs) => {
                let list = array_of(config, "Env");
                for (name, value) in pairs {
                    let start = format!("{name}=");
                    let new = json!(format!("{start}{value}"));
                    match list.iter_mut().find(|old| old.as_str().is_some_and(|old| old.starts_with(&start)))
                    {
                        Some(old) => *old = new,
                        None => list.push(new),
                    }
                }
            }
            Instruction::Label(pairs) => {
                let labels = object_of(config, "Labels");
                labels.extend(pairs.iter().map(|(name, value)| (name.clone(), json!(value))));
            }
            Instruction::Expose(ports) => {
                object_of(config, "ExposedPorts").extend(ports.iter().map(|port| (port.clone(), json!({}))));
            }
            Instruction::Volume(places) => {
                object_of(config, "Volumes").extend(places.iter().map(|place| (place.clone(), json!({}))));
            }
            Instruction::Text(field, text) => {
                config.insert((*field).into(), json!(text));
            }
            Instruction::OnBuild(text) => array_of(config, "OnBuild").push(json!(text)),
        }
    }
}

fn array_of<'a>(config: &'a mut Map<String, Value>, field: &str) -> &'a mut Vec<Value> {
    let value = config.entry(field).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("it has just been made one"),
    }
}

/// The object that `field` is, made one if it is none.
pub fn object_of<'a>(config: &'a mut Map<String, Value>, field: &str) -> &'a mut Map<String, Value> {
    let value = config.entry(field).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it has just been made one"),
    }
}

/// A JSON array, or a line for the shell.
fn program(value: &str) -> Vec<String> {
    array(value).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), value.into()])
}

fn array(value: &str) -> Option<Vec<String>> {
    value.starts_with('[').then(|| serde_json::from_str(value).ok()).flatten()
}

/// `NAME=VALUE …`, or `NAME VALUE`.
fn pairs(value: &str) -> Result<Vec<(String, String)>> {
    let words = words(value)?;
    let pair = |word: &String| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let pairs: Option<Vec<_>> = words.iter().map(pair).collect();
    let pairs = pairs.or_else(|| {
        let (name, value) = value.split_once(char::is_whitespace)?;
        (!name.contains('=')).then(|| vec![(name.to_owned(), value.trim().to_owned())])
    });
    let pairs = pairs.with_context(|| format!("{value:?} is not of the form NAME=VALUE"))?;
    match pairs.iter().any(|(name, _)| name.is_empty()) {
        true => bail!("{value:?} has a value without a name"),
        false => Ok(pairs),
    }
}

/// Words between blanks; quotes and backslashes keep blanks together, as in a Dockerfile.
fn words(text: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (_, Some(open)) if c == open => quote = None,
            (_, None) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        bail!("{text:?} has a quote without its end");
    }
    words.extend(word);
    Ok(words)
}

/// `80`, `80/udp` or `80-90`.
fn port(text: &str) -> Result<String> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let sound = numbers.splitn(2, '-').all(|number| number.parse::<u16>().is_ok_and(|number| number > 0));
    if !sound || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(anyhow!("{text:?} is no port")).hint("write PORT, PORT/udp or PORT-PORT");
    }
    Ok(format!("{numbers}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_they_do() {
        for (text, expected) in [
            ("CMD [\"a\",\"b c\"]", json!({"Cmd": ["a", "b c"], "Env": ["A=1"]})),
            ("cmd=/bin/x -y", json!({"Cmd": ["/bin/sh", "-c", "/bin/x -y"], "Env": ["A=1"]})),
            ("ENTRYPOINT=/x", json!({"Entrypoint": ["/bin/sh", "-c", "/x"], "Env": ["A=1"]})),
            ("ENTRYPOINT []", json!({"Entrypoint": [], "Env": ["A=1"]})),
            ("ENV A=2 B=\"x y\" C=a\\ b", json!({"Cmd": ["old"], "Env": ["A=2", "B=x y", "C=a b"]})),
            ("ENV A some words", json!({"Cmd": ["old"], "Env": ["A=some words"]})),
            (
                "LABEL a.b=c 'd e'=f",
                json!({"Cmd": ["old"], "Env": ["A=1"], "Labels": {"a.b": "c", "d e": "f"}}),
            ),
            (
                "EXPOSE 80 53/UDP 1-9",
                json!({"Cmd": ["old"], "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "1-9/tcp": {}}}),
            ),
            ("VOLUME [\"/a\"]", json!({"Cmd": ["old"], "Env": ["A=1"], "Volumes": {"/a": {}}})),
            ("VOLUME /a /b", json!({"Cmd": ["old"], "Env": ["A=1"], "Volumes": {"/a": {}, "/b": {}}})),
            ("WORKDIR /x", json!({"Cmd": ["old"], "Env": ["A=1"], "WorkingDir": "/x"})),
            ("USER = 1:2", json!({"Cmd": ["old"], "Env": ["A=1"], "User": "1:2"})),
            ("STOPSIGNAL INT", json!({"Cmd": ["old"], "Env": ["A=1"], "StopSignal": "INT"})),
            ("ONBUILD RUN x", json!({"Cmd": ["old"], "Env": ["A=1"], "OnBuild": ["RUN x"]})),
        ] {
            let mut config = json!({"Cmd": ["old"], "Env": ["A=1"]});
            let instruction: Instruction = text.parse().unwrap();
            instruction.apply(config.as_object_mut().unwrap());
            assert_eq!(config, expected, "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "CMD",
            "CMD=",
            "RUN x",
            "FROM x",
            "ENV A",
            "ENV =x",
            "ENV \"A=x",
            "EXPOSE x",
            "EXPOSE 0",
            "EXPOSE 1/x",
            "=x",
        ] {
            assert!(text.parse::<Instruction>().is_err(), "{text:?}");
        }
    }
}
