//! `ctr login` and `ctr logout`: credentials are checked at the registry, then kept; and forgotten.

use super::{
    Globals, output,
    registry_args::{TlsArgs, ask, ask_password, password_of_stdin},
    run_args::takes_a_truth_value,
};
use crate::{
    error::Explain,
    registry::{Credentials, Login, PullOptions, forget_all},
};
use anyhow::{Context, Result, anyhow};
use std::path::PathBuf;

/// Log in to a registry
#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// The user
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// The password; others see it in the list of processes: better --password-stdin
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Take the password from stdin
    #[arg(long, conflicts_with = "password", requires = "username")]
    password_stdin: bool,
    /// Print the user that is logged in
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    get_login: bool,
    /// Tell where the credentials are kept
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    tls: TlsArgs,
    /// The registry; without it the first one of unqualified-search-registries
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

/// Log out of a registry
#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct LogoutArgs {
    /// All registries
    #[arg(short, long, conflicts_with = "registry")]
    all: bool,
    /// File with credentials
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// The registry; without it the first one of unqualified-search-registries
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

/// Log in.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let (dirs, options) = (globals.dirs()?, args.tls.options());
    let login = Login::new(&dirs, &options, args.registry.as_deref())?;
    if args.get_login {
        return match login.known()? {
            Some(Credentials::Password(user, _)) => output::line(user).map(|()| 0),
            Some(Credentials::Identity(_)) => output::line("<token>").map(|()| 0),
            None => Err(anyhow!("not logged in to {}", login.key)).hint(format!("ctr login {}", login.key)),
        };
    }
    if args.username.is_none()
        && args.password.is_none()
        && let Some(Credentials::Password(user, password)) = login.known()?
    {
        output::line(format_args!("Authenticating with existing credentials for {}", login.key))?;
        if login.verify(&user, &password).is_ok() {
            output::line(format_args!("Existing credentials are valid. Already logged in to {}", login.key))?;
            return Ok(0);
        }
        output::line("Existing credentials are invalid, please enter valid username and password")?;
    }
    let user = args.username.clone().map_or_else(|| ask("Username: "), Ok)?;
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => password_of_stdin()?,
        None => ask_password("ctr login --username USER --password-stdin REGISTRY < FILE")?,
    };
    if user.contains(':') {
        return Err(anyhow!("a user's name has no colon")).hint("the password goes into --password-stdin");
    }
    login.verify(&user, &password)?;
    let file =
        login.keep(&user, &password).with_context(|| format!("keep the credentials for {}", login.key))?;
    if args.verbose {
        output::line(format_args!("Used: {}", file.display()))?;
    }
    output::line("Login Succeeded!")?;
    Ok(0)
}

/// Log out.
pub fn logout(args: &LogoutArgs, globals: &Globals) -> Result<u8> {
    let dirs = globals.dirs()?;
    if args.all {
        forget_all(&dirs, args.authfile.as_ref())?;
        output::line("Removed login credentials for all registries")?;
        return Ok(0);
    }
    let options = PullOptions { auth_file: args.authfile.clone(), ..PullOptions::default() };
    let login = Login::new(&dirs, &options, args.registry.as_deref())?;
    if login.forget()? {
        output::line(format_args!("Removed login credentials for {}", login.key))?;
        return Ok(0);
    }
    if args.authfile.is_none() && login.known()?.is_some() {
        output::line(format_args!(
            "Not logged into {} with current tool. Existing credentials were established via docker login. Please use docker \
             logout instead.",
            login.key
        ))?;
        return Ok(0);
    }
    Err(anyhow!("not logged in to {}", login.key)).hint("`ctr login --get-login REGISTRY` shows who is")
}
