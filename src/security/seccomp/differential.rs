//! Compiled filters against a plain reading of their profiles, call by call.

use super::abi::Abi;
use super::bpf::{AND, AT_LEAST, EQUAL, GREATER, Instruction, JUMP, LOAD, RETURN};
use super::compile::{MAX_INSTRUCTIONS, compile};
use super::profile::{Condition, Environment, Operator, Profile, parse};
use super::*;
use proptest::prelude::*;
use serde_json::json;

const KILL_PROCESS: u32 = 0x8000_0000;
const ARM: u32 = 0x4000_0028;

/// `struct seccomp_data` without the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub arch: u32,
    pub number: u32,
    pub args: [u64; 6],
}

/// The verdict on `call`, and after how many instructions.
pub fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let word = |offset: u32| match offset {
        0 => call.number,
        4 => call.arch,
        16..64 if offset.is_multiple_of(8) => call.args[offset as usize / 8 - 2] as u32,
        16..64 if offset % 8 == 4 => (call.args[offset as usize / 8 - 2] >> 32) as u32,
        _ => panic!("load from {offset}"),
    };
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let skip = |holds| usize::from(if holds { jt } else { jf });
        (at, steps) = (at + 1, steps + 1);
        match code {
            LOAD => accumulator = word(k),
            AND => accumulator &= k,
            JUMP => at += k as usize,
            EQUAL => at += skip(accumulator == k),
            GREATER => at += skip(accumulator > k),
            AT_LEAST => at += skip(accumulator >= k),
            RETURN => return (k, steps),
            _ => panic!("operation {code:#x}"),
        }
    }
}

/// What the profile says, read rule by rule.
fn plain(profile: &Profile, to: &Environment, call: &Call) -> u32 {
    let abi = match [to.abi, Abi::I386].into_iter().find(|abi| abi.audit_arch() == call.arch) {
        Some(Abi::I386) if !profile.i386 || to.abi != Abi::X86_64 => return KILL_PROCESS,
        Some(Abi::X86_64) if (0x4000_0000..u32::MAX).contains(&call.number) => return KILL_PROCESS,
        Some(abi) => abi,
        None => return KILL_PROCESS,
    };
    let name = abi.name(call.number);
    let matching = profile.rules.iter().find(|rule| {
        let holds = |all: &Vec<Condition>| all.iter().all(|condition| holds(abi, condition, &call.args));
        rule.applies(to)
            && rule.names.iter().any(|n| Some(n.as_str()) == name)
            && (rule.alternatives.is_empty() || rule.alternatives.iter().any(holds))
    });
    matching.map_or(profile.default, |rule| rule.verdict)
}

fn holds(abi: Abi, condition: &Condition, args: &[u64; 6]) -> bool {
    let width = if abi == Abi::I386 { u32::MAX.into() } else { u64::MAX };
    let argument = args[usize::from(condition.index)] & width;
    let value = condition.value & width;
    match condition.op {
        Operator::NotEqual => argument != value,
        Operator::Less => argument < value,
        Operator::LessOrEqual => argument <= value,
        Operator::Equal => argument == value,
        Operator::GreaterOrEqual => argument >= value,
        Operator::Greater => argument > value,
        Operator::MaskedEqual => argument & value == condition.value_two & value,
    }
}

/// Every number that means anything to any convention, with a margin, and the edges of x32.
fn numbers() -> impl Iterator<Item = u32> {
    let edges = [0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
    (0..600).chain(0x4000_0000..0x4000_0258).chain(edges)
}

/// Argument lists around everything the profile compares with.
fn arguments(profile: &Profile) -> Vec<[u64; 6]> {
    let conditions = profile.rules.iter().flat_map(|rule| rule.alternatives.iter().flatten());
    let mut lists = vec![[0; 6], [u64::MAX; 6]];
    for Condition { index, value, value_two, .. } in conditions {
        for base in [*value, *value_two, value & value_two] {
            for argument in
                [base, base.wrapping_add(1), base.wrapping_sub(1), base ^ 1 << 32, base ^ 1 << 63, !base]
            {
                for rest in [0, 1, u64::MAX] {
                    let mut list = [rest; 6];
                    list[usize::from(*index)] = argument;
                    lists.push(list);
                }
            }
        }
    }
    lists.sort_unstable();
    lists.dedup();
    lists
}

/// What the kernel demands of a program (bpf_check_classic and seccomp_check_filter).
fn well_formed(program: &[Instruction]) {
    assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()));
    for (at, Instruction { code, jt, jf, k }) in program.iter().enumerate() {
        let furthest = match *code {
            RETURN => 0,
            JUMP => at + 1 + *k as usize,
            EQUAL | GREATER | AT_LEAST => at + 1 + usize::from(*jt.max(jf)),
            _ => at + 1,
        };
        assert!(furthest < program.len(), "instruction {at} goes on behind the end");
    }
}

fn agree(profile: &Profile, to: &Environment, lists: &[[u64; 6]]) {
    let program = compile(profile, to).unwrap();
    well_formed(&program);
    for arch in
        [Abi::X86_64.audit_arch(), Abi::I386.audit_arch(), Abi::Aarch64.audit_arch(), ARM, 0, u32::MAX]
    {
        for number in numbers() {
            for &args in lists {
                // A 32-bit call's registers are widened with zeros.
                let narrow = arch & KILL_PROCESS == 0;
                let args = if narrow { args.map(|a| u64::from(a as u32)) } else { args };
                let call = Call { arch, number, args };
                assert_eq!(run(&program, &call).0, plain(profile, to, &call), "{call:x?} in {to:?}");
            }
        }
    }
}

#[test]
fn default_profile_for_every_call() {
    let profile = parse(DEFAULT_PROFILE).unwrap();
    let lists = arguments(&profile);
    for abi in [Abi::X86_64, Abi::Aarch64] {
        for caps in [CapSet::DEFAULT, CapSet::EMPTY, CapSet::from_bits(u64::MAX)] {
            agree(&profile, &Environment { abi, caps, kernel: (6, 18) }, &lists);
        }
        for capability in CapSet::from_bits(u64::MAX).iter() {
            let caps = CapSet::of(&[capability]);
            agree(&profile, &Environment { abi, caps, kernel: (6, 18) }, &[[0; 6], [u64::MAX; 6]]);
        }
    }
}

#[test]
fn every_operator_at_every_edge() {
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let values = [0, 1, 0xffff_ffff, 0x1_0000_0000, 0x7_0000_0007, u64::MAX - 1, u64::MAX];
    let mut rules = vec![];
    for (at, operator) in operators.iter().enumerate() {
        for (to, value) in values.into_iter().enumerate() {
            let name = Abi::X86_64.name((at * values.len() + to) as u32).unwrap();
            let arg = json!({"index": at % 6, "op": format!("SCMP_CMP_{operator}"), "value": value, "valueTwo": value & 0x5_0000_0005});
            rules.push(
                json!({"names": [name], "action": "SCMP_ACT_TRACE", "errnoRet": 100 + to, "args": [arg]}),
            );
        }
    }
    let text =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": rules});
    let profile = parse(text.to_string().as_bytes()).unwrap();
    let to = Environment { abi: Abi::X86_64, caps: CapSet::EMPTY, kernel: (6, 1) };
    agree(&profile, &to, &arguments(&profile));
}

/// Long enough that no jump of eight bits gets across it, and that the verdicts have to be repeated.
#[test]
fn long_programs() {
    let to = Environment { abi: Abi::X86_64, caps: CapSet::EMPTY, kernel: (6, 1) };
    let profile = |each: u64| {
        let rules =
            (0..260).filter_map(|number| Some((number, Abi::X86_64.name(number)?))).map(|(number, name)| {
                let args: Vec<_> = (0..each)
                    .map(|n| json!({"index": 1, "op": "SCMP_CMP_EQ", "value": u64::from(number) << 30 | n}))
                    .collect();
                json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": number, "args": args})
            });
        let text = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules.collect::<Vec<_>>()});
        parse(text.to_string().as_bytes()).unwrap()
    };
    let long = profile(3);
    assert!(compile(&long, &to).unwrap().len() > 3000);
    agree(&long, &to, &arguments(&long)[..40]);
    let error = compile(&profile(6), &to).unwrap_err().to_string();
    assert!(error.contains("4096 instructions"), "{error}");
}

fn profiles() -> impl Strategy<Value = serde_json::Value> {
    let numbers =
        prop_oneof![0u64..4, any::<u64>(), Just(u64::MAX), Just(1 << 32), any::<u32>().prop_map(u64::from)];
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"].map(|op| format!("SCMP_CMP_{op}"));
    let operators = prop::sample::select(operators.to_vec());
    let arg = (0..6u8, numbers.clone(), numbers, operators).prop_map(
        |(index, value, two, op)| json!({"index": index, "value": value, "valueTwo": two, "op": op}),
    );
    let names = [
        "read",
        "write",
        "open",
        "close",
        "stat",
        "fstat",
        "clone",
        "socket",
        "openat",
        "mseal",
        "no_such_call",
    ];
    let names = prop::collection::vec(prop::sample::select(names.to_vec()), 0..5);
    let action = prop_oneof![
        Just(json!({"action": "SCMP_ACT_ALLOW"})),
        Just(json!({"action": "SCMP_ACT_KILL"})),
        Just(json!({"action": "SCMP_ACT_LOG", "errnoRet": null})),
        (0..5u32).prop_map(|n| json!({"action": "SCMP_ACT_ERRNO", "errnoRet": n})),
    ];
    let gate = prop::sample::select(vec![
        json!(null),
        json!({"caps": ["CAP_CHOWN"]}),
        json!({"caps": ["CAP_BPF", "CAP_CHOWN"]}),
        json!({"arches": ["amd64"]}),
        json!({"arches": ["arm64", "x86"]}),
        json!({"minKernel": "5.11"}),
    ]);
    let rule = (names, action, prop::collection::vec(arg, 0..4), gate.clone(), gate).prop_map(
        |(names, mut rule, args, includes, excludes)| {
            let more = json!({"names": names, "args": args, "includes": includes, "excludes": excludes});
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            rule
        },
    );
    let sub = prop::sample::select(vec![json!(["SCMP_ARCH_X86", "SCMP_ARCH_X32"]), json!([]), json!(null)]);
    (prop::collection::vec(rule, 0..12), sub).prop_map(|(rules, sub)| {
        let arches = json!([{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": sub}]);
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "archMap": arches, "syscalls": rules})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_profile(profile in profiles(), narrow: bool, caps in 0u64..4, minor in 9u32..13, more: [u64; 6]) {
        let profile = parse(profile.to_string().as_bytes()).unwrap();
        let abi = if narrow { Abi::Aarch64 } else { Abi::X86_64 };
        let mut lists = arguments(&profile);
        lists.truncate(60);
        lists.push(more);
        agree(&profile, &Environment { abi, caps: CapSet::from_bits(caps), kernel: (5, minor) }, &lists);
    }

    #[test]
    fn any_bytes_are_no_panic(json: Vec<u8>) {
        let _ = from_profile(&json, CapSet::DEFAULT);
    }
}
