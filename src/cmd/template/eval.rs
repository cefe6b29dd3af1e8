//! A tree and a value to text.

use super::{
    Fault, LIMIT, STEPS,
    datum::Datum,
    functions,
    parser::{Base, Block, Branch, Command, Node, Operand, Pipe},
};
use serde_json::Value;
use std::borrow::Cow;

/// What `nodes` say of `root`; every printed value passes through `clean`. With `headings` fields have the names of their
/// columns for values.
///
/// # Errors
/// A field that a structure hasn't, arguments that a function doesn't take, or more than [`LIMIT`] bytes or [`STEPS`] steps.
pub fn evaluate(
    nodes: &[Node],
    root: &Value,
    clean: fn(&str) -> Cow<'_, str>,
    headings: Option<&dyn Fn(&str) -> String>,
) -> Result<String, Fault> {
    let root = Datum::of(Cow::Borrowed(root));
    let variables = vec![("$".to_owned(), root.clone())];
    let mut evaluator = Evaluator { out: String::new(), variables, clean, headings, steps: 0 };
    evaluator.walk(nodes, &root)?;
    Ok(evaluator.out)
}

struct Evaluator<'v, 'h> {
    out: String,
    variables: Vec<(String, Datum<'v>)>,
    clean: fn(&str) -> Cow<'_, str>,
    headings: Option<&'h dyn Fn(&str) -> String>,
    steps: u32,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'v> Evaluator<'v, '_> {
    fn walk(&mut self, nodes: &[Node], dot: &Datum<'v>) -> Result<Flow, Fault> {
        for node in nodes {
            match node {
                Node::Text(text) => self.write(text, 0)?,
                Node::Print(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.names.is_empty() {
                        let text = value.text("<no value>");
                        self.write(&(self.clean)(&text), pipe.commands[0].head.at)?;
                    }
                }
                Node::Branch(branch) => {
                    let scope = self.variables.len();
                    let flow = match branch.kind {
                        Block::Range => self.range(branch, dot)?,
                        _ => self.choose(branch, dot)?,
                    };
                    self.variables.truncate(scope);
                    if flow != Flow::On {
                        return Ok(flow);
                    }
                }
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
        }
        Ok(Flow::On)
    }

    fn write(&mut self, text: &str, at: usize) -> Result<(), Fault> {
        if self.out.len() + text.len() > LIMIT {
            return Err(Fault::new(at, format!("the output is longer than {LIMIT} bytes")));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn choose(&mut self, branch: &Branch, dot: &Datum<'v>) -> Result<Flow, Fault> {
        let value = self.pipe(&branch.pipe, dot)?;
        match (value.is_true(), branch.kind) {
            (true, Block::With) => self.walk(&branch.body, &value),
            (true, _) => self.walk(&branch.body, dot),
            (false, _) => self.walk(&branch.otherwise, dot),
        }
    }

    fn range(&mut self, branch: &Branch, dot: &Datum<'v>) -> Result<Flow, Fault> {
        let value = self.value(&branch.pipe, dot)?;
        if !matches!(&*value.value, Value::Array(_) | Value::Object(_) | Value::Null) {
            let at = branch.pipe.commands[0].head.at;
            return Err(Fault::new(at, format!("range can't go through {}", value.kind())));
        }
        let items = value.items();
        if items.is_empty() {
            return self.walk(&branch.otherwise, dot);
        }
        let scope = self.variables.len();
        for (key, item) in items {
            let values = [key.into(), item.clone()];
            // One variable takes the element, two take its key, too.
            for (name, value) in branch.pipe.names.iter().rev().zip(values.into_iter().rev()) {
                self.bind(name, value, branch.pipe.declares);
            }
            let flow = self.walk(&branch.body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn bind(&mut self, name: &str, value: Datum<'v>, new: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, slot)) if !new => *slot = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Datum<'v>) -> Result<Datum<'v>, Fault> {
        let value = self.value(pipe, dot)?;
        for name in &pipe.names {
            self.bind(name, value.clone(), pipe.declares);
        }
        Ok(value)
    }

    fn value(&mut self, pipe: &Pipe, dot: &Datum<'v>) -> Result<Datum<'v>, Fault> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value, dot)?);
        }
        Ok(value.unwrap_or(Value::Null.into()))
    }

    fn command(
        &mut self,
        command: &Command,
        piped: Option<Datum<'v>>,
        dot: &Datum<'v>,
    ) -> Result<Datum<'v>, Fault> {
        let Command { head, arguments } = command;
        self.steps += 1;
        if self.steps > STEPS {
            return Err(Fault::new(head.at, format!("more than {STEPS} steps")));
        }
        let Base::Function(name) = head.base else {
            let value = self.operand(head, dot)?;
            return match arguments.as_slice() {
                [] => Ok(value),
                // Docker's and Podman's `.Label "key"` is a method; here it is a map, and so may others be.
                [key] if !head.fields.is_empty() && (value.has_free_keys() || self.headings.is_some()) => {
                    let key = self.operand(key, dot)?;
                    if self.headings.is_some() { Ok(value) } else { invoke("index", head.at, &[value, key]) }
                }
                _ => Err(Fault::new(head.at, "what is no function takes no arguments")),
            };
        };
        if name == "and" || name == "or" {
            return self.choice(name, command, piped, dot);
        }
        let values = arguments.iter().map(|argument| self.operand(argument, dot));
        let mut values = values.collect::<Result<Vec<_>, _>>()?;
        values.extend(piped);
        invoke(name, head.at, &values)
    }

    /// The first argument that decides, or the last one.
    fn choice(
        &mut self,
        name: &str,
        command: &Command,
        piped: Option<Datum<'v>>,
        dot: &Datum<'v>,
    ) -> Result<Datum<'v>, Fault> {
        let mut last = None;
        for argument in &command.arguments {
            let value = self.operand(argument, dot)?;
            if value.is_true() == (name == "or") {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| Fault::new(command.head.at, format!("{name} takes arguments")))
    }

    fn operand(&mut self, operand: &Operand, dot: &Datum<'v>) -> Result<Datum<'v>, Fault> {
        let (base, shown) = match &operand.base {
            Base::Dot => (dot.clone(), ""),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                (known.map_or(Value::Null.into(), |(_, value)| value.clone()), name.as_str())
            }
            Base::Constant(value) => (value.clone().into(), ""),
            Base::Function(name) => (invoke(name, operand.at, &[])?, ""),
            Base::Pipe(pipe) => (self.pipe(pipe, dot)?, "(…)"),
        };
        if let (Some(heading), Some(last)) = (self.headings, operand.fields.last()) {
            return Ok(heading(last).into());
        }
        let mut value = base;
        for (nth, name) in operand.fields.iter().enumerate() {
            value = match value.field(name) {
                Some(found) => found,
                None if value.has_free_keys() => Value::Null.into(),
                None => {
                    let before: String =
                        operand.fields[..nth].iter().flat_map(|field| [".", field]).collect();
                    return Err(no_field(operand.at, name, &format!("{shown}{before}"), &value));
                }
            };
        }
        Ok(value)
    }
}

fn invoke<'v>(name: &str, at: usize, arguments: &[Datum<'v>]) -> Result<Datum<'v>, Fault> {
    let made = functions::call(name, arguments).map_err(|e| Fault::new(at, format!("{name}: {e}")))?;
    if made.value.as_str().is_some_and(|text| text.len() > LIMIT) {
        return Err(Fault::new(at, format!("{name}: the result is longer than {LIMIT} bytes")));
    }
    Ok(made)
}

fn no_field(at: usize, name: &str, before: &str, value: &Datum<'_>) -> Fault {
    let before = if before.is_empty() { "." } else { before };
    let fault = Fault::new(at, format!("can't evaluate field {name} in {before}, which is {}", value.kind()));
    match value.value.as_object() {
        Some(object) => {
            let names: Vec<_> = object.keys().map(String::as_str).collect();
            fault.hint(format!("it has {}", names.join(", ")))
        }
        None => fault,
    }
}
