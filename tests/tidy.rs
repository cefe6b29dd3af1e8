//! The house rules that a compiler doesn't know: imports go downwards, one file one job, `unsafe` in one room.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms from top to bottom; those of one line don't know each other.
const FLOORS: &[&[&str]] = &[
    &["main", "lib"],
    &["cmd"],
    &["quadlet"],
    &["build"],
    &["monitor"],
    &["container"],
    &["transports"],
    &["registry"],
    &["storage", "network"],
    &["namespaces", "cgroups", "security"],
    &["sys"],
    &["error", "weakened"],
];

/// Past this many lines, unit tests aside, a file has two jobs.
const LINES: usize = 400;

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

impl Source {
    /// The lines that are code, with their numbers; unit tests come last in a file and are left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).enumerate();
        lines.map(|(n, line)| (n + 1, line.trim())).filter(|(_, line)| !line.starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut waiting = vec![root.clone()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).expect("list src") {
            let path = entry.expect("list src").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&root).expect("a path below src").to_owned();
                let first = below.iter().next().expect("a name").to_string_lossy().into_owned();
                let text = fs::read_to_string(&path).expect("read a source file");
                found.push(Source { path: below, room: first.trim_end_matches(".rs").to_owned(), text });
            }
        }
    }
    assert!(found.len() > 10, "the sources were found");
    // Files that only a test build knows have rules of their own.
    let tests: Vec<PathBuf> = found.iter().flat_map(tests_beside).collect();
    found.retain(|source| !tests.contains(&source.path));
    found
}

/// The files that `source` takes in with `#[cfg(test)] mod name;`.
fn tests_beside(source: &Source) -> Vec<PathBuf> {
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    let modules = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]").filter_map(|pair| {
        let name = pair[1].strip_prefix("mod ")?.strip_suffix(';')?;
        Some(source.path.parent()?.join(format!("{name}.rs")))
    });
    modules.collect()
}

/// The first words after `crate::` in `line`: `crate::{a::b, c}` has `a` and `c`.
fn rooms_named(line: &str) -> Vec<&str> {
    let mut rooms = Vec::new();
    for (_, rest) in line.match_indices("crate::").map(|(at, word)| (at, &line[at + word.len()..])) {
        let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let Some(group) = rest.strip_prefix('{') else {
            rooms.push(&rest[..word(rest)]);
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' => start = depth == 0 || start,
                c if c.is_alphabetic() && start && depth == 0 => {
                    rooms.push(&group[at..at + word(&group[at..])]);
                    start = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

fn report(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn the_parser_of_imports_sees_groups() {
    assert_eq!(rooms_named("use crate::sys::fork;"), ["sys"]);
    assert_eq!(
        rooms_named("use crate::{error::Explain, storage::{Digest, Dirs}, sys};"),
        ["error", "storage", "sys"]
    );
    assert_eq!(rooms_named("let x = crate::cmd::main(crate::sys::y());"), ["cmd", "sys"]);
}

#[test]
fn imports_go_downwards() {
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let mut broken = Vec::new();
    for source in sources() {
        let own = floor(&source.room).unwrap_or_else(|| panic!("{} is in no room", source.path.display()));
        // A `use crate::{` may go over several lines: they are joined up to the semicolon.
        let mut statement = String::new();
        for (number, line) in source.code() {
            statement.push_str(line);
            statement.push(' ');
            if statement.contains("use crate::{") && !line.contains(';') {
                continue;
            }
            for room in rooms_named(&statement) {
                let there = floor(room);
                // What is no room is an item of the crate's root: a macro.
                if room != source.room && there.is_some_and(|there| there <= own) {
                    broken.push(format!("{}:{number} imports {room}", source.path.display()));
                }
            }
            statement.clear();
        }
    }
    report("imports go downwards only (ARCHITECTURE.md)", broken);
}

#[test]
fn unsafe_lives_in_sys() {
    let forms = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe(", "allow(unsafe_code"];
    let names_unsafe = |line: &str| forms.iter().any(|form| line.contains(form));
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.room != "sys") {
        let lines = source.code().filter(|(_, line)| names_unsafe(line));
        broken.extend(lines.map(|(number, _)| format!("{}:{number}", source.path.display())));
    }
    report("`unsafe` outside src/sys", broken);
}

#[test]
fn only_the_verbs_print() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !["cmd", "main"].contains(&source.room.as_str())) {
        let prints = |line: &str| {
            ["println!", "print!(", "eprintln!", "eprint!(", "dbg!("].iter().any(|p| line.contains(p))
        };
        let lines = source.code().filter(|(_, line)| prints(line));
        broken.extend(lines.map(|(number, _)| format!("{}:{number}", source.path.display())));
    }
    report("printing outside src/cmd", broken);
}

#[test]
fn the_async_runtime_lives_in_registry() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.room != "registry") {
        let lines =
            source.code().filter(|(_, line)| line.contains("tokio::") || line.contains("thread::spawn"));
        // Layers unpack on threads of the pulling process, which never forks a container.
        let lines = lines.filter(|(_, line)| source.room != "storage" || line.contains("tokio::"));
        broken.extend(lines.map(|(number, _)| format!("{}:{number}", source.path.display())));
    }
    report("threads or tokio in a process that forks (ARCHITECTURE.md, invariant 1)", broken);
}

#[test]
fn a_file_has_one_job() {
    let long = sources().into_iter().filter_map(|source| {
        let lines = source.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        (lines > LINES).then(|| format!("{}: {lines} lines", source.path.display()))
    });
    report(&format!("files of more than {LINES} lines"), long.collect());
}

#[test]
fn every_file_says_what_it_is() {
    let silent = sources().into_iter().filter(|source| {
        let doc: String = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
        doc.len() < 10 || doc.contains("(room ")
    });
    report(
        "files without a line of module docs",
        silent.map(|source| source.path.display().to_string()).collect(),
    );
}

#[test]
fn names_are_terms_not_drawers() {
    let drawers = ["utils", "util", "helpers", "helper", "misc", "common"];
    let broken = sources().into_iter().filter(|source| {
        source.path.iter().any(|part| drawers.contains(&part.to_string_lossy().trim_end_matches(".rs")))
    });
    report("a file's name says its job", broken.map(|source| source.path.display().to_string()).collect());
}

/// The rows of the table in docs/security.md: file, name of the weakening, test.
fn defences() -> Vec<[String; 3]> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md"));
    let text = text.expect("read docs/security.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        cells[0].parse::<u32>().ok()?;
        let [_, _, _, place, weakened, test] = cells[..] else { panic!("not six cells: {line}") };
        Some([place, weakened, test].map(str::to_owned))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 30, "the table was found");
    rows
}

#[test]
fn the_table_of_defences_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let defences = defences();
    let mut broken = Vec::new();
    for [place, weakened, test] in &defences {
        let files = place.split('`').filter(|part| part.contains('/'));
        broken.extend(files.filter(|file| !root.join(file).exists()).map(|file| format!("no {file}")));
        let parts: Vec<&str> = test.split("::").collect();
        let (file, name) = match parts[..] {
            [binary, module, name] => (format!("tests/{binary}/{module}.rs"), name),
            [binary, name] => (format!("tests/{binary}.rs"), name),
            _ => panic!("{test} is no path of a test"),
        };
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        // Between the two may be what keeps those for the guest apart.
        let before = text.split_once(&format!("\nfn {name}() {{")).map_or("", |(before, _)| before);
        if !before.lines().rev().take(2).any(|line| line == "#[test]") {
            broken.push(format!("no test {test}"));
        }
        let switch = format!("weakened::is(\"{weakened}\")");
        let switched =
            |file: &str| fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(&switch));
        if weakened != "-" && !place.split('`').any(switched) {
            broken.push(format!("{weakened} is not switched off in {place}"));
        }
    }
    for source in sources() {
        for (_, line) in source.code() {
            let names = line.split("weakened::is(\"").skip(1).filter_map(|rest| rest.split('"').next());
            let unknown = names.filter(|name| defences.iter().all(|[_, known, _]| known != name));
            broken.extend(unknown.map(|name| format!("{name} is not in the table")));
        }
    }
    report("docs/security.md", broken);
}

#[test]
fn no_unfinished_marks() {
    let mut broken = Vec::new();
    for source in sources() {
        let marks = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];
        let lines =
            source.text.lines().enumerate().filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)));
        broken.extend(lines.map(|(number, _)| format!("{}:{}", source.path.display(), number + 1)));
    }
    report("unfinished work is an issue, not a mark", broken);
}
