//! Histories: who did what, as lines of text.
//!
//! A history is made by chance, cut down by [`super::shrink`], written to
//! `regressions/`, and read by people; so it is data with one meaning for any
//! numbers. Each line is `ACTOR VERB NUMBER...`; numbers that are missing are 0.
//!
//! | verb | its numbers |
//! |---|---|
//! | `semget` | key, semaphores, flags |
//! | `semop` | set, timeout, copies of the last operation, then number, value, flags of each |
//! | `getval` `getpid` `getncnt` `getzcnt` | set, semaphore |
//! | `setval` | set, semaphore, value |
//! | `getall` `semstat` `semrm` | set |
//! | `semctl` | set; the command is one that there is not |
//! | `setall` | set, values |
//! | `semset` `shmset` | object, owner, group, mode |
//! | `msgget` | key, flags |
//! | `msgsnd` | queue, type, length, flags, first byte of the text |
//! | `msgrcv` | queue, type, room, flags |
//! | `msgstat` `msgrm` | queue |
//! | `msgset` | queue, owner, group, mode, bytes |
//! | `shmget` | key, bytes, flags |
//! | `shmat` | segment, flags |
//! | `shmdt` | which of the actor's attachments, the oldest first |
//! | `shmstat` `shmrm` | segment |
//! | `shmlock` | segment, 1 to lock and 0 to unlock |
//! | `signal` `kill` | – |
//! | `exit` `exec` | – |
//! | `fork` | the actor that the child becomes; who that was is killed |
//!
//! An object is named by how many of its kind are younger, of all that there
//! ever were, and a negative number is an id that nobody was given: see
//! [`super::machines`]. Owner and group are an actor's, −1 is nobody. A timeout
//! is in nanoseconds, −1 is none, −2 an invalid one, −3 a bad pointer to one,
//! and −4 a bad pointer to the operations.

use std::fmt;
use std::str::FromStr;

/// How many actors there are. Actor 0 is root where the tests are, and never waits.
pub(super) const ACTORS: usize = 5;

macro_rules! verbs {
    ($($verb:ident $name:literal $numbers:literal,)*) => {
        /// What is done; in the order of `actors.h`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(i32)]
        pub(super) enum Verb { $($verb,)* }

        impl Verb {
            const ALL: &[Verb] = &[$(Verb::$verb,)*];

            fn name(self) -> &'static str {
                match self { $(Verb::$verb => $name,)* }
            }

            /// How many numbers it has, at most.
            pub(super) fn numbers(self) -> usize {
                match self { $(Verb::$verb => $numbers,)* }
            }
        }
    };
}

verbs! {
    SemGet "semget" 3,
    SemOp "semop" 15,
    GetVal "getval" 2,
    GetPid "getpid" 2,
    GetNcnt "getncnt" 2,
    GetZcnt "getzcnt" 2,
    GetAll "getall" 1,
    SetVal "setval" 3,
    SetAll "setall" 5,
    SemCtl "semctl" 1,
    SemStat "semstat" 1,
    SemSet "semset" 4,
    SemRm "semrm" 1,
    MsgGet "msgget" 2,
    MsgSnd "msgsnd" 5,
    MsgRcv "msgrcv" 4,
    MsgStat "msgstat" 1,
    MsgSet "msgset" 5,
    MsgRm "msgrm" 1,
    ShmGet "shmget" 3,
    ShmAt "shmat" 2,
    ShmDt "shmdt" 1,
    ShmStat "shmstat" 1,
    ShmSet "shmset" 4,
    ShmRm "shmrm" 1,
    ShmLock "shmlock" 2,
    Signal "signal" 0,
    Kill "kill" 0,
    Exit "exit" 0,
    Exec "exec" 0,
    Fork "fork" 1,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) actor: usize,
    pub(super) verb: Verb,
    pub(super) numbers: Vec<i64>,
}

impl Step {
    pub(super) fn new(actor: usize, verb: Verb, numbers: impl Into<Vec<i64>>) -> Self {
        Step {
            actor,
            verb,
            numbers: numbers.into(),
        }
    }

    /// A number of it.
    pub(super) fn number(&self, at: usize) -> i64 {
        self.numbers.get(at).copied().unwrap_or(0)
    }
}

/// What several actors did, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct History(pub(super) Vec<Step>);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.actor, self.verb.name())?;
        self.numbers
            .iter()
            .try_for_each(|number| write!(f, " {number}"))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let wrong = |what: &str| format!("{what} in {line:?}");
        let actor = words.next().and_then(|word| word.parse().ok());
        let actor = actor.filter(|&actor: &usize| actor < ACTORS);
        let name = words.next().unwrap_or_default();
        let verb = Verb::ALL.iter().copied().find(|verb| verb.name() == name);
        let numbers: Result<Vec<i64>, _> = words.map(str::parse).collect();
        let step = Step {
            actor: actor.ok_or_else(|| wrong("no such actor"))?,
            verb: verb.ok_or_else(|| wrong("no such verb"))?,
            numbers: numbers.map_err(|_| wrong("a number is expected"))?,
        };
        if step.numbers.len() > step.verb.numbers() {
            return Err(wrong("too many numbers"));
        }
        Ok(step)
    }
}

impl FromStr for History {
    type Err = String;

    /// Lines that are empty or begin with `#` mean nothing.
    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::parse).collect::<Result<_, _>>().map(History)
    }
}
