//! Pieces to a tree. What can't be is found here, before anything is printed: names of functions and variables, too.

use super::{
    Fault, functions,
    lexer::{Kind, Piece, Token, lex},
};
use serde_json::Value;

/// One step of a template.
#[derive(Clone, Debug)]
pub enum Node {
    /// Goes out as it is.
    Text(String),
    /// Evaluated, and printed unless it is an assignment.
    Print(Pipe),
    /// `if`, `with` or `range`.
    Branch(Branch),
    Break,
    Continue,
}

#[derive(Clone, Debug)]
pub struct Branch {
    pub kind: Block,
    pub pipe: Pipe,
    pub body: Vec<Node>,
    pub otherwise: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    If,
    With,
    Range,
}

/// Commands, each one's result the last argument of the next.
#[derive(Clone, Debug)]
pub struct Pipe {
    /// Variables that take the result.
    pub names: Vec<String>,
    /// They are new (`:=`).
    pub declares: bool,
    pub commands: Vec<Command>,
}

/// A function and its arguments, or one value.
#[derive(Clone, Debug)]
pub struct Command {
    pub head: Operand,
    pub arguments: Vec<Operand>,
}

#[derive(Clone, Debug)]
pub struct Operand {
    /// Where it begins, in bytes.
    pub at: usize,
    pub base: Base,
    /// The fields after it.
    pub fields: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum Base {
    Dot,
    Variable(String),
    Constant(Value),
    Function(&'static str),
    Pipe(Box<Pipe>),
}

/// Parentheses and blocks inside each other.
const DEPTH: usize = 64;

/// The tree of `source`.
pub fn parse(source: &str) -> Result<Vec<Node>, Fault> {
    let mut parser = Parser {
        pieces: lex(source)?.into_iter(),
        variables: vec!["$".to_owned()],
        depth: 0,
        loops: 0,
        end: source.len(),
    };
    let (nodes, end) = parser.list()?;
    match end {
        End::Source => Ok(nodes),
        End::Block(at) => Err(Fault::new(at, "{{end}} ends nothing")),
        End::Else(at, _) => Err(Fault::new(at, "{{else}} belongs to nothing")),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    variables: Vec<String>,
    depth: usize,
    loops: usize,
    end: usize,
}

/// What ended a list of nodes.
enum End {
    Source,
    Block(usize),
    Else(usize, Vec<Token>),
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, End), Fault> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (at, mut tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { at, tokens } => (at, tokens),
            };
            let Some(first) = tokens.first() else { continue };
            let Kind::Word(word) = &first.kind else {
                nodes.push(Node::Print(self.whole(at, &tokens)?));
                continue;
            };
            let alone = tokens.len() == 1;
            match word.as_str() {
                "if" => nodes.push(self.branch(Block::If, at, &tokens[1..])?),
                "with" => nodes.push(self.branch(Block::With, at, &tokens[1..])?),
                "range" => nodes.push(self.branch(Block::Range, at, &tokens[1..])?),
                "end" if alone => return Ok((nodes, End::Block(at))),
                "else" => {
                    tokens.remove(0);
                    return Ok((nodes, End::Else(at, tokens)));
                }
                word @ ("break" | "continue") if alone => {
                    if self.loops == 0 {
                        return Err(Fault::new(at, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                    }
                    nodes.push(if word == "break" { Node::Break } else { Node::Continue });
                }
                word @ ("define" | "template" | "block") => {
                    return Err(Fault::new(at, format!("{{{{{word}}}}} is not built")));
                }
                _ => nodes.push(Node::Print(self.whole(at, &tokens)?)),
            }
        }
        Ok((nodes, End::Source))
    }

    fn branch(&mut self, kind: Block, at: usize, tokens: &[Token]) -> Result<Node, Fault> {
        self.enter(at)?;
        let scope = self.variables.len();
        let pipe = self.pipe_of(at, tokens, kind == Block::Range)?;
        self.loops += usize::from(kind == Block::Range);
        let (body, end) = self.list()?;
        self.loops -= usize::from(kind == Block::Range);
        let otherwise = match end {
            End::Block(_) => Vec::new(),
            End::Source => return Err(Fault::new(at, "{{end}} is missing")),
            End::Else(at, rest) => match (rest.first().map(|token| &token.kind), kind) {
                (None, _) => match self.list()? {
                    (nodes, End::Block(_)) => nodes,
                    (_, End::Source) => return Err(Fault::new(at, "{{end}} is missing")),
                    (_, End::Else(at, _)) => return Err(Fault::new(at, "a second {{else}}")),
                },
                (Some(Kind::Word(word)), Block::If) if word == "if" => {
                    vec![self.branch(kind, at, &rest[1..])?]
                }
                (Some(Kind::Word(word)), Block::With) if word == "with" => {
                    vec![self.branch(kind, at, &rest[1..])?]
                }
                _ => return Err(Fault::new(at, "unexpected words after {{else")),
            },
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(Node::Branch(Branch { kind, pipe, body, otherwise }))
    }

    fn enter(&mut self, at: usize) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEPTH { Err(Fault::new(at, format!("more than {DEPTH} levels"))) } else { Ok(()) }
    }

    fn whole(&mut self, at: usize, tokens: &[Token]) -> Result<Pipe, Fault> {
        self.pipe_of(at, tokens, false)
    }

    /// The pipe that all of `tokens` are; `two` variables may take its result.
    fn pipe_of(&mut self, at: usize, tokens: &[Token], two: bool) -> Result<Pipe, Fault> {
        let mut rest = tokens;
        let pipe = self.pipe(at, &mut rest, two)?;
        match rest.first() {
            None => Ok(pipe),
            Some(token) => Err(Fault::new(token.at, "unexpected `)`")),
        }
    }

    fn pipe(&mut self, at: usize, tokens: &mut &[Token], two: bool) -> Result<Pipe, Fault> {
        let (names, declares) = self.names(tokens, two)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(at, tokens)?;
            if !commands.is_empty() && !matches!(command.head.base, Base::Function(_)) {
                return Err(Fault::new(command.head.at, "what comes after `|` must be a function"));
            }
            commands.push(command);
            match tokens.split_first() {
                Some((Token { kind: Kind::Pipe, .. }, rest)) => *tokens = rest,
                _ => break,
            }
        }
        Ok(Pipe { names, declares, commands })
    }

    fn names(&mut self, tokens: &mut &[Token], two: bool) -> Result<(Vec<String>, bool), Fault> {
        use Kind::{Assign, Comma, Declare, Variable};
        let kinds: Vec<&Kind> = tokens.iter().take(4).map(|token| &token.kind).collect();
        let (names, sign) = match kinds.as_slice() {
            [Variable(name), sign @ (Declare | Assign), ..] => (vec![name.clone()], sign),
            [Variable(a), Comma, Variable(b), sign @ (Declare | Assign)] if two => {
                (vec![a.clone(), b.clone()], sign)
            }
            _ => return Ok((Vec::new(), false)),
        };
        let declares = **sign == Declare;
        let at = tokens[0].at;
        *tokens = &tokens[names.len() * 2..];
        for name in &names {
            if declares {
                self.variables.push(name.clone());
            } else {
                self.known(name, at)?;
            }
        }
        Ok((names, declares))
    }

    fn known(&self, name: &str, at: usize) -> Result<(), Fault> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(Fault::new(at, format!("the variable {name} is not declared")))
    }

    fn command(&mut self, at: usize, tokens: &mut &[Token]) -> Result<Command, Fault> {
        let mut operands = Vec::new();
        while let Some(token) = tokens.first() {
            if matches!(token.kind, Kind::Pipe | Kind::Close) {
                break;
            }
            operands.push(self.operand(tokens)?);
        }
        let at =
            tokens.first().map_or(if tokens.is_empty() { self.end.min(at) } else { at }, |token| token.at);
        let mut operands = operands.into_iter();
        let head = operands.next().ok_or_else(|| Fault::new(at, "a value is missing"))?;
        if matches!(head.base, Base::Constant(Value::Null)) {
            return Err(Fault::new(head.at, "nil is not a command"));
        }
        Ok(Command { head, arguments: operands.collect() })
    }

    fn operand(&mut self, tokens: &mut &[Token]) -> Result<Operand, Fault> {
        let Some((Token { at, kind, .. }, mut rest)) = tokens.split_first() else {
            return Err(Fault::new(self.end, "a value is missing"));
        };
        let mut fields = Vec::new();
        let base = match kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(name.clone());
                Base::Dot
            }
            Kind::Variable(name) => {
                self.known(name, *at)?;
                Base::Variable(name.clone())
            }
            Kind::Constant(value) => Base::Constant(value.clone()),
            Kind::Word(word) => match word.as_str() {
                "true" => Base::Constant(true.into()),
                "false" => Base::Constant(false.into()),
                "nil" => Base::Constant(Value::Null),
                name => Base::Function(functions::named(name).ok_or_else(|| {
                    Fault::new(*at, format!("the function {name:?} is not known"))
                        .hint(format!("there are {}", functions::NAMES.join(", ")))
                })?),
            },
            Kind::Open => {
                self.enter(*at)?;
                let pipe = self.pipe(*at, &mut rest, false)?;
                self.depth -= 1;
                match rest.split_first() {
                    Some((Token { kind: Kind::Close, .. }, after)) => rest = after,
                    _ => return Err(Fault::new(*at, "the `(` has no `)`")),
                }
                Base::Pipe(Box::new(pipe))
            }
            Kind::Pipe | Kind::Comma | Kind::Close | Kind::Declare | Kind::Assign => {
                return Err(Fault::new(*at, "unexpected sign: a value belongs here"));
            }
        };
        while let Some((Token { spaced: false, kind: Kind::Field(name), .. }, after)) = rest.split_first() {
            if matches!(base, Base::Constant(_) | Base::Function(_)) {
                return Err(Fault::new(*at, "it has no fields: put it in parentheses"));
            }
            fields.push(name.clone());
            rest = after;
        }
        *tokens = rest;
        Ok(Operand { at: *at, base, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be() {
        for (source, at, said) in [
            ("a{{end}}", 1, "ends nothing"),
            ("{{else}}", 0, "belongs to nothing"),
            ("x{{if .A}}b", 1, "{{end}} is missing"),
            ("{{if .A}}b{{else}}c", 10, "{{end}} is missing"),
            ("{{if .A}}{{else}}{{else}}{{end}}", 17, "second"),
            ("{{with .A}}{{else if .B}}{{end}}", 11, "after {{else"),
            ("{{if}}{{end}}", 0, "a value is missing"),
            ("{{break}}", 0, "outside {{range}}"),
            ("{{range .}}{{end}}{{continue}}", 18, "outside {{range}}"),
            ("{{foo .A}}", 2, "\"foo\" is not known"),
            ("{{$x}}", 2, "$x is not declared"),
            ("{{$x = 1}}", 2, "$x is not declared"),
            ("{{if $x := 1}}{{end}}{{$x}}", 23, "$x is not declared"),
            ("{{.A | }}", 0, "a value is missing"),
            ("{{.A | .B}}", 7, "must be a function"),
            ("{{(.A}}", 2, "has no `)`"),
            ("{{.A)}}", 4, "unexpected `)`"),
            ("{{nil}}", 2, "nil is not a command"),
            ("{{\"a\".B}}", 2, "no fields"),
            ("{{template \"x\"}}", 0, "{{template}} is not built"),
            ("{{define \"x\"}}{{end}}", 0, "{{define}} is not built"),
            ("{{, .A}}", 2, "unexpected sign"),
        ] {
            let fault = parse(source).unwrap_err();
            assert!((fault.at, fault.what.contains(said)) == (at, true), "{source}: {fault:?}");
        }
    }

    #[test]
    fn depth() {
        let nested = |n: usize| format!("{{{{{}.A{}}}}}", "(".repeat(n), ")".repeat(n));
        assert!(parse(&nested(DEPTH)).is_ok() && parse(&nested(100_000)).is_err());
        let blocks = |n: usize| format!("{}{}", "{{if .}}".repeat(n), "{{end}}".repeat(n));
        assert!(parse(&blocks(DEPTH)).is_ok() && parse(&blocks(10_000)).is_err());
        let chain = |n: usize| format!("{{{{if .}}}}{}{{{{end}}}}", "{{else if .}}".repeat(n));
        assert!(parse(&chain(10)).is_ok() && parse(&chain(10_000)).is_err());
    }
}
