//! What `dipc` says when it cannot do what was asked.

use std::fmt;

/// What happened, why, and what to do next; each a clause of its own. The
/// command prints it and ends with `code`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    what: String,
    why: String,
    next: String,
    /// The exit status.
    pub(crate) code: u8,
}

/// What most functions of this crate return.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with the exit status 1 and no advice.
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Failure {
            what: what.into(),
            why: why.to_string(),
            next: String::new(),
            code: 1,
        }
    }

    /// What the user can do about it.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// With another exit status.
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if !self.next.is_empty() {
            write!(f, "\n  {}", self.next)?;
        }
        Ok(())
    }
}

/// Gives an error of the system the name of what was being done.
pub(crate) trait Doing<T> {
    /// `what` is evaluated only on failure.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|why| Failure::new(what(), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let failure = Failure::new("cannot read x", "no such file").next("make one");
        assert_eq!(
            failure.to_string(),
            "cannot read x: no such file\n  make one"
        );
        assert_eq!(Failure::new("a", "b").to_string(), "a: b");
    }
}
