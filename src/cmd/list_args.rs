//! The options that listings of several kinds have.

use super::{run_args::takes_a_truth_value, template::Format};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct ListArgs {
    /// `json`, a Go template, or `table` and a template
    #[arg(long)]
    pub format: Option<Format>,
    /// No line of headings
    #[arg(short, long)]
    pub noheading: bool,
    /// Whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Nothing but ids, or names where those are what one calls it by
    #[arg(short, long)]
    pub quiet: bool,
}
