//! `--format`: JSON, a table, or a template in the language of Go's text/template, whose fields have Docker's and Podman's
//! names. Here: what a verb needs to print its rows in each of these ways.

mod datum;
mod eval;
mod functions;
mod lexer;
mod parser;
mod printf;

use super::output;
use crate::error::Explain;
use anyhow::{Result, anyhow};
use serde_json::Value;
use std::{borrow::Cow, io::IsTerminal, str::FromStr};

/// Bytes of a template's output for one row, and of each string that it makes on the way.
const LIMIT: usize = 16 << 20;
/// Commands that a template executes for one row.
const STEPS: u32 = 1_000_000;

/// `--format`.
#[derive(Clone, Debug, Default)]
pub enum Format {
    /// As the verb prints without it.
    #[default]
    Default,
    /// `json`.
    Json,
    /// Anything else.
    Template(Template),
}

/// The columns of a verb's table.
pub struct Columns<'a> {
    /// The template of a row: `{{.ID}}\t{{.Names}}`.
    pub row: &'a str,
    /// Headings that are not the field's name in capitals.
    pub headings: &'a [(&'a str, &'a str)],
    /// Leave out the line of headings.
    pub noheading: bool,
}

impl Format {
    /// Print `rows`: as an array of JSON, as a table with headings, or each through the template.
    ///
    /// # Errors
    /// The template asks a row for a field that it hasn't; the disk behind stdout is full.
    pub fn print(&self, rows: &[Value], columns: &Columns<'_>) -> Result<()> {
        let default;
        let template = match self {
            Format::Json => return output::print(&output::json(&rows.iter().cloned().collect())),
            Format::Template(template) => template,
            Format::Default => {
                default = Template::new(columns.row, true).map_err(|fault| fault.explain(columns.row))?;
                &default
            }
        };
        output::print(&if template.table {
            template.render_table(rows, columns)?
        } else {
            template.render(
                rows,
                if std::io::stdout().is_terminal() { for_terminal } else { |text| text.into() },
            )?
        })
    }

    /// Print the one thing that there is: `default` unless another format was asked for.
    pub fn print_one(&self, value: &Value, default: impl FnOnce(&Value) -> String) -> Result<()> {
        match self {
            Format::Default => output::print(&default(value)),
            Format::Json => output::print(&output::json(value)),
            Format::Template(_) => {
                self.print(std::slice::from_ref(value), &Columns { row: "", headings: &[], noheading: false })
            }
        }
    }
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Format> {
        // Podman takes `{{json}}` and `{{json.}}`, which are no templates, for the same.
        let word = text.trim();
        let word = word.strip_prefix("{{").and_then(|word| word.strip_suffix("}}")).unwrap_or(word).trim();
        if matches!(word, "json" | "json.") {
            return Ok(Format::Json);
        }
        if text.trim() == "table" || text.is_empty() {
            return Ok(Format::Default);
        }
        let (source, table) = text.strip_prefix("table ").map_or((text, false), |source| (source, true));
        Template::new(source, table).map(Format::Template).map_err(|fault| fault.explain(source))
    }
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    source: String,
    nodes: Vec<parser::Node>,
    /// Rows are lines of a table, columns between tabs.
    table: bool,
}

impl Template {
    /// Parse `source`. In its text `\t` and `\n` are a tab and a line feed, and in a table spaces are tabs.
    pub fn new(source: &str, table: bool) -> Result<Template, Fault> {
        let mut nodes = parser::parse(source)?;
        plain_text(&mut nodes, &|text| {
            let text = text.replace("\\t", "\t").replace("\\n", "\n");
            if table { text.replace(' ', "\t") } else { text }
        });
        Ok(Template { source: source.to_owned(), nodes, table })
    }

    /// Each of `rows`, or all of them where the template has `{{range .}}` of its own; a line feed after each.
    pub fn render(&self, rows: &[Value], clean: fn(&str) -> Cow<'_, str>) -> Result<String> {
        let all;
        let rows = if self.has_own_range() {
            all = [rows.iter().cloned().collect()];
            &all
        } else {
            rows
        };
        let mut out = String::new();
        for row in rows {
            out.push_str(
                &eval::evaluate(&self.nodes, row, clean, None).map_err(|f| f.explain(&self.source))?,
            );
            if !self.source.ends_with('\n') && !self.source.ends_with("\\n") {
                out.push('\n');
            }
        }
        Ok(out)
    }

    fn render_table(&self, rows: &[Value], columns: &Columns<'_>) -> Result<String> {
        let heading = |field: &str| {
            let special = columns.headings.iter().find(|(name, _)| *name == field);
            special.map_or_else(|| capitals(field), |(_, heading)| (*heading).to_owned())
        };
        let clean: fn(&str) -> Cow<'_, str> = |text| output::printable(text).into();
        let mut lines = String::new();
        if !columns.noheading {
            let line = eval::evaluate(&self.nodes, &Value::Null, clean, Some(&heading));
            lines = line.map_err(|fault| fault.explain(&self.source))? + "\n";
        }
        lines.push_str(&self.render(rows, clean)?);
        let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
        Ok(output::table(&[], &lines.lines().map(cells).collect::<Vec<_>>()))
    }

    fn has_own_range(&self) -> bool {
        self.nodes.iter().any(|node| match node {
            parser::Node::Branch(branch) => branch.kind == parser::Block::Range && branch.pipe.is_dot(),
            _ => false,
        })
    }
}

impl parser::Pipe {
    fn is_dot(&self) -> bool {
        matches!(self.commands.as_slice(), [command] if command.arguments.is_empty()
            && matches!(command.head.base, parser::Base::Dot) && command.head.fields.is_empty())
    }
}

fn plain_text(nodes: &mut [parser::Node], change: &dyn Fn(&str) -> String) {
    for node in nodes {
        match node {
            parser::Node::Text(text) => *text = change(text),
            parser::Node::Branch(branch) => {
                plain_text(&mut branch.body, change);
                plain_text(&mut branch.otherwise, change);
            }
            _ => {}
        }
    }
}

/// Values must not steer a terminal; what the user's own template says may.
fn for_terminal(text: &str) -> Cow<'_, str> {
    let lines =
        text.split('\n').map(|line| line.split('\t').map(output::printable).collect::<Vec<_>>().join("\t"));
    lines.collect::<Vec<_>>().join("\n").into()
}

/// `RunningFor` as `RUNNING FOR`, `ImageID` as `IMAGE ID`.
fn capitals(field: &str) -> String {
    let chars: Vec<char> = field.chars().collect();
    let mut out = String::new();
    for (at, c) in chars.iter().enumerate() {
        let after_small = at > 0 && chars[at - 1].is_lowercase();
        let before_small = at > 0 && chars.get(at + 1).is_some_and(|next| next.is_lowercase());
        if c.is_uppercase() && (after_small || before_small) {
            out.push(' ');
        }
        out.extend(c.to_uppercase());
    }
    out
}

/// What is wrong with a template.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, in bytes.
    pub at: usize,
    /// What.
    pub what: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Fault {
    fn new(at: usize, what: impl Into<String>) -> Fault {
        Fault { at, what: what.into(), hint: None }
    }

    fn hint(self, hint: String) -> Fault {
        Fault { hint: Some(hint), ..self }
    }

    /// The failure of the template `source`.
    pub fn explain(self, source: &str) -> anyhow::Error {
        let before = source.get(..self.at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let failure = Err::<(), _>(anyhow!("template {line}:{column}: {}", self.what));
        let hint =
            self.hint.unwrap_or_else(|| "`--format json` shows all fields with their values".to_owned());
        failure.hint(hint).err().unwrap_or_else(|| anyhow!("{line}:{column}"))
    }
}

#[cfg(test)]
mod tests;
