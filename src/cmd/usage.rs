//! What clap says about a command line, in our words: one error and one hint; help and version on stdout.

use super::output;
use crate::{
    error::{Explain, OURS},
    sys::signal,
};
use anyhow::{Result, anyhow};
use clap::{CommandFactory, error::ErrorKind};

/// Print the help or the version if `complaint` is that; else it is a failure.
pub fn answer(complaint: &clap::Error) -> Result<u8> {
    match complaint.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            signal::die_on_broken_pipe();
            output::print(&complaint.render().to_string()).map(|()| 0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // On stderr: help that nobody asked for is no answer.
            let _ = complaint.print();
            Ok(OURS)
        }
        _ => {
            let (error, hint) = shorten(&complaint.to_string(), &verb(std::env::args()));
            Err(anyhow!(error)).hint(hint)
        }
    }
}

/// `ctr VERB` of a command line, as far as it names one.
pub fn verb(words: impl Iterator<Item = String>) -> String {
    let mut command = super::Cli::command();
    let mut verb = "ctr".to_owned();
    // Before the verb there may be options and their values.
    for word in words.skip(1).skip_while(|word| command.find_subcommand(word).is_none()).collect::<Vec<_>>() {
        command.build();
        let Some(found) = command.find_subcommand(&word) else { break };
        verb = format!("{verb} {}", found.get_name());
        command = found.clone();
    }
    verb
}

/// clap's paragraphs (`error: …`, `  tip: …`, `Usage: ctr …`) about `verb` as an error and a hint.
pub fn shorten(text: &str, verb: &str) -> (String, String) {
    let (said, usage) = text.split_once("\nUsage: ").unwrap_or((text, verb));
    let mut error = Vec::new();
    let mut hint = None;
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix("tip: ") {
            // clap can't know that the option belongs to a later version, or to nobody.
            Some(tip) if tip.starts_with("to pass ") => {}
            Some(tip) => hint = hint.or(Some(tip.to_owned())),
            None if line.starts_with("For more information") => {}
            None => error.push(line.strip_prefix("error: ").unwrap_or(line)),
        }
    }
    let verb = usage.split_whitespace().take_while(|word| word.bytes().all(|b| b.is_ascii_lowercase()));
    let help = || format!("`{} --help` lists what there is", verb.collect::<Vec<_>>().join(" "));
    (error.join(" "), hint.unwrap_or_else(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs() {
        for (text, error, hint) in [
            (
                "error: unexpected argument '--al' found\n\n  tip: a similar argument exists: '--all'\n\nUsage: ctr ps --all\n\nFor more information, try '--help'.\n",
                "unexpected argument '--al' found",
                "a similar argument exists: '--all'",
            ),
            (
                "error: the following required arguments were not provided:\n  <CONTAINER>...\n\nUsage: ctr container rm <CONTAINER>...\n\nFor more information, try '--help'.\n",
                "the following required arguments were not provided: <CONTAINER>...",
                "`ctr container rm --help` lists what there is",
            ),
            (
                "error: unexpected argument '-v' found\n\n  tip: to pass '-v' as a value, use '-- -v'\n\nUsage: ctr run [OPTIONS] <IMAGE>\n",
                "unexpected argument '-v' found",
                "`ctr run --help` lists what there is",
            ),
            (
                "error: invalid value 'x' for '--format <FORMAT>': only `json`\n\nFor more information, try '--help'.\n",
                "invalid value 'x' for '--format <FORMAT>': only `json`",
                "`ctr ps --help` lists what there is",
            ),
        ] {
            assert_eq!(shorten(text, "ctr ps"), (error.to_owned(), hint.to_owned()));
        }
    }

    #[test]
    fn verbs() {
        for (line, expected) in [
            ("ctr", "ctr"),
            ("ctr --root /x ps --format y", "ctr ps"),
            ("ctr container ls -f z", "ctr container ls"),
            ("ctr run --memory x ubuntu ps", "ctr run"),
            ("ctr nonsense", "ctr"),
        ] {
            assert_eq!(verb(line.split(' ').map(str::to_owned)), expected);
        }
    }
}
