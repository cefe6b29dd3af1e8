//! The options with which verbs reach a registry, and the questions that they ask for credentials.

use super::run_args::takes_a_truth_value;
use crate::{error::Explain, registry::PullOptions};
use anyhow::{Context, Result, anyhow};
use rustix::{
    io::Errno,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};
use std::{
    io::{BufRead, IsTerminal, Read, Stdin, Write, stderr, stdin},
    path::PathBuf,
};

/// No answer is longer, in bytes.
const LIMIT: u64 = 64 << 10;

// No docs: a verb that flattens it would show them as its own help.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(mut_args = takes_a_truth_value)]
pub struct TlsArgs {
    /// Whether registries must prove who they are
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    tls_verify: Option<bool>,
    /// Directory of certificates, in place of certs.d
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// File with credentials
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

#[derive(clap::Args, Clone, Debug, Default)]
pub struct RegistryArgs {
    #[command(flatten)]
    tls: TlsArgs,
    /// Credentials for the registry; better kept by `ctr login`
    #[arg(long, value_name = "USER[:PASSWORD]")]
    creds: Option<String>,
}

impl TlsArgs {
    /// As the registry room takes them.
    pub fn options(&self) -> PullOptions {
        PullOptions {
            tls_verify: self.tls_verify,
            cert_dir: self.cert_dir.clone(),
            auth_file: self.authfile.clone(),
            ..PullOptions::default()
        }
    }
}

impl RegistryArgs {
    /// As the registry room takes them; a password that is left out is asked for.
    pub fn options(&self) -> Result<PullOptions> {
        let credentials = match self.creds.as_deref().map(|text| text.split_once(':').ok_or(text)) {
            None => None,
            Some(Ok((user, password))) => Some((user.to_owned(), password.to_owned())),
            Some(Err(user)) => Some((user.to_owned(), ask_password("--creds USER:PASSWORD")?)),
        };
        Ok(PullOptions { credentials, ..self.tls.options() })
    }
}

/// Ask for a line on stderr.
pub fn ask(question: &str) -> Result<String> {
    let _ = write!(stderr(), "{question}");
    let mut answer = String::new();
    stdin().lock().take(LIMIT).read_line(&mut answer).context("read the answer")?;
    match answer.trim_end_matches(['\r', '\n']) {
        "" => Err(anyhow!("nothing was answered to {:?}", question.trim_end_matches([' ', ':'])))
            .hint("name it as an option: --username USER --password-stdin"),
        answer => Ok(answer.to_owned()),
    }
}

/// Ask for a password, which the terminal doesn't show. `otherwise` is how to name it where there is no terminal.
pub fn ask_password(otherwise: &str) -> Result<String> {
    if !stdin().is_terminal() {
        return Err(anyhow!("the password is missing, and nobody is there to be asked")).hint(otherwise);
    }
    let hidden = Hidden::begin(stdin()).context("hide what is typed")?;
    let answer = ask("Password: ");
    drop(hidden);
    let _ = writeln!(stderr());
    answer
}

/// All of stdin, without the line feed at its end.
pub fn password_of_stdin() -> Result<String> {
    let mut text = String::new();
    stdin().lock().take(LIMIT).read_to_string(&mut text).context("read the password from stdin")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// A terminal that doesn't show what is typed, until this is dropped.
struct Hidden(Stdin, Termios);

impl Hidden {
    fn begin(terminal: Stdin) -> Result<Hidden, Errno> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Hidden(terminal, before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, OptionalActions::Now, &self.1);
    }
}
