//! The points at which something happens to a command, and a sample of them.

use super::{
    commands::{CASES, Case},
    ground::Ground,
    supervisor::{Act, Side, Traced},
    support::User,
};
use rustix::io::Errno;
use std::{collections::BTreeMap, env, fmt, ops::RangeInclusive, time::Instant};

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Everybody is killed before or behind it.
    Killed(Side),
    /// It fails.
    Fails(Errno),
    /// The power goes before or behind it; with what the journal knows by then, or without.
    Unpowered(Side, bool),
    /// The file system becomes read-only before it, or at the next moment when that can be.
    ReadOnly,
    /// The disk has so many pages more than it needs before.
    Pages,
    /// The disk has so many inodes more than it needs before.
    Inodes,
    /// It has so many descriptors.
    Descriptors,
}

/// One experiment.
#[derive(Clone, Copy)]
pub struct Point {
    /// Whose `ctr`.
    pub user: User,
    /// Doing what.
    pub case: &'static Case,
    /// Meets what.
    pub fate: Fate,
    /// At which of its changing calls.
    pub at: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.fate {
            Fate::Killed(side) => format!("killed at {side:?}"),
            Fate::Fails(errno) => name(errno).to_owned(),
            Fate::Unpowered(side, flushed) => {
                format!("unpowered at {side:?}{}", if flushed { " flushed" } else { "" })
            }
            Fate::ReadOnly => "read-only".to_owned(),
            limit => format!("{limit:?}").to_lowercase(),
        };
        write!(f, "{:?}/{}/{fate}/{}", self.user, self.case.name, self.at)
    }
}

/// The errors that calls are made to fail with.
pub const ERRORS: [Errno; 7] =
    [Errno::NOSPC, Errno::IO, Errno::DQUOT, Errno::MFILE, Errno::NOMEM, Errno::INTR, Errno::ROFS];

fn name(errno: Errno) -> &'static str {
    let names = ["ENOSPC", "EIO", "EDQUOT", "EMFILE", "ENOMEM", "EINTR", "EROFS"];
    ERRORS.iter().position(|other| *other == errno).map_or("?", |at| names[at])
}

/// One point for each of `fates` and of `numbers`, for each command and user.
pub fn of_numbers(grounds: &[(User, Ground)], fates: &[Fate], numbers: RangeInclusive<usize>) -> Vec<Point> {
    let mut points = Vec::new();
    for (user, _) in grounds {
        for case in CASES {
            let at = |at| fates.iter().map(move |fate| Point { user: *user, case, fate: *fate, at });
            points.extend(numbers.clone().flat_map(at));
        }
    }
    points
}

/// One point for each of `fates` at each changing call of each command and user, after a look how many there are.
pub fn of_calls(grounds: &[(User, Ground)], fates: &[Fate]) -> Vec<Point> {
    let mut points = Vec::new();
    for (user, ground) in grounds {
        for case in CASES {
            ground.prepare(case);
            let traced = ground.trace(case.line, |_, _| Act::Go);
            succeeded(&traced).unwrap_or_else(|problem| {
                panic!("{user:?}/{}, uninterrupted: {problem}", case.name);
            });
            println!("{user:?}/{}: {} calls that change something", case.name, traced.calls);
            let at = |at| fates.iter().map(move |fate| Point { user: *user, case, fate: *fate, at });
            points.extend((1..=traced.calls).flat_map(at));
        }
    }
    points
}

/// Of `points` so many (or CTR_CRASH_COUNT), drawn with the seed CTR_CRASH_SEED; all of them in the nightly mode; or those
/// that are printed with CTR_CRASH_POINT at their beginning.
pub fn sample(mut points: Vec<Point>, count: usize) -> Vec<Point> {
    if let Ok(beginning) = env::var("CTR_CRASH_POINT") {
        points.retain(|point| point.to_string().starts_with(&beginning));
        return points;
    }
    if nightly() {
        return points;
    }
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let mut state = number("CTR_CRASH_SEED").unwrap_or_else(clock);
    println!("CTR_CRASH_SEED={state}");
    // splitmix64, and a Fisher-Yates shuffle.
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    for at in (1..points.len()).rev() {
        points.swap(at, (next() % (at as u64 + 1)) as usize);
    }
    // Each command gets its share, however few calls it makes.
    let mut seen = BTreeMap::<&str, usize>::new();
    points.sort_by_cached_key(|point| {
        let rank = seen.entry(point.case.name).or_default();
        *rank += 1;
        *rank
    });
    points.truncate(number("CTR_CRASH_COUNT").map_or(count, |count| count as usize));
    points
}

/// Do `experiment` at each of `points`, print how many there were, and fail with all that went wrong.
pub fn run(
    points: &[Point],
    grounds: &[(User, Ground)],
    experiment: impl Fn(&Ground, &Point) -> Result<(), String>,
) {
    let began = Instant::now();
    let (mut counts, mut broken) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for (number, point) in points.iter().enumerate() {
        if number % 500 == 499 {
            println!("{number} of {} points in {:.1} s", points.len(), began.elapsed().as_secs_f64());
        }
        let (_, ground) =
            grounds.iter().find(|(user, _)| *user == point.user).expect("a ground for each user");
        *counts.entry(point.case.name).or_default() += 1;
        if let Err(problem) = experiment(ground, point) {
            println!("CTR_CRASH_POINT='{point}': {problem}");
            broken.push(format!("CTR_CRASH_POINT='{point}': {problem}"));
        }
    }
    println!("{} points in {:.1} s: {counts:?}", points.len(), began.elapsed().as_secs_f64());
    let shown = broken.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(broken.is_empty(), "{} of {} points:\n{shown}", broken.len(), points.len());
}

/// It exited 0.
pub fn succeeded(traced: &Traced) -> Result<(), String> {
    match traced.status.success() && !traced.hung {
        true => Ok(()),
        false => Err(told(traced, "it should have exited 0")),
    }
}

/// It ended as it may: 0, or 125 with one error that says what and no panic. Whether it was 0.
pub fn ended_well(traced: &Traced) -> Result<bool, String> {
    let errors = traced.output.lines().filter(|line| line.starts_with("error:")).count();
    let well = match traced.status.code() {
        Some(0) => true,
        Some(125) => errors >= 1,
        _ => false,
    };
    match well && !traced.hung && !traced.output.contains("panicked") {
        true => Ok(traced.status.success()),
        false => Err(told(traced, "it ended badly")),
    }
}

/// `problem`, where it was met and what was said.
pub fn told(traced: &Traced, problem: &str) -> String {
    let hung = if traced.hung { ", hung" } else { "" };
    let hit = traced.hit.as_deref().unwrap_or("no call");
    format!("{problem} (at {hit}; {}{hung}): {}", traced.status, traced.output.trim_end())
}

/// There is all the time in the world.
pub fn nightly() -> bool {
    env::var_os("CTR_TEST_NIGHTLY").is_some_and(|value| value == "1")
}

fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
