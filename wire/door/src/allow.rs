//! The file of nodes that may come in.
//!
//! ```text
//! # name   address
//! node1    10.0.0.1
//! node2    10.0.0.2      # two networks: one line each
//! node2    10.1.0.2
//! ```
//!
//! Addresses are numbers. A name would make whoever answers for the name service
//! the one who lets in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use dipc_wire::peer::MAX_NAME;
use thiserror::Error;

use crate::file::{self, BadFile, Guard};
use crate::refusal::Refusal;

/// Which nodes may come in, and from where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allow(BTreeMap<String, Vec<IpAddr>>);

/// Why there is no list. Each says what to do.
#[derive(Debug, Error)]
pub enum BadAllow {
    /// The file is not believed.
    #[error(transparent)]
    File(#[from] BadFile),
    /// One of its lines.
    #[error("{path}, line {line}: {what}; write `NAME ADDRESS`, such as `node1 10.0.0.1`")]
    Line {
        /// Of which file.
        path: String,
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Nobody could come in.
    #[error("{0} lists no node, so nobody could come in: write a line `NAME ADDRESS` for each")]
    Empty(String),
}

impl Allow {
    /// Reads a file that nobody else may write.
    pub fn load(path: &Path) -> Result<Allow, BadAllow> {
        let text = file::read(path, Guard::Public)?;
        let name = || path.display().to_string();
        let list = Allow::parse(&text).map_err(|(line, what)| BadAllow::Line {
            path: name(),
            line,
            what,
        })?;
        if list.0.is_empty() {
            return Err(BadAllow::Empty(name()));
        }
        Ok(list)
    }

    fn parse(text: &str) -> Result<Allow, (usize, String)> {
        let mut list = Allow::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                [name, _] if name.len() > MAX_NAME => {
                    let what = format!("a name has at most {MAX_NAME} bytes");
                    return Err((number, what));
                }
                [name, address] => {
                    let ip: IpAddr = address
                        .parse()
                        .map_err(|_| (number, format!("{address:?} is no numeric address")))?;
                    if ip.is_unspecified() {
                        return Err((number, format!("{address} is nobody's address")));
                    }
                    let addresses = list.0.entry(name.to_owned()).or_default();
                    addresses.push(ip.to_canonical());
                }
                [_] => return Err((number, "a name without an address".into())),
                _ => return Err((number, "more than a name and an address".into())),
            }
        }
        Ok(list)
    }

    /// Whether the node of this name may be at this address.
    pub fn admits(&self, name: &str, address: IpAddr) -> Result<(), Refusal> {
        match self.0.get(name) {
            None => Err(Refusal::Unlisted { name: name.into() }),
            Some(addresses) if addresses.contains(&address.to_canonical()) => Ok(()),
            Some(_) => Err(Refusal::Elsewhere {
                name: name.into(),
                address,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_comes_in_by_its_name_from_each_of_its_addresses_only() {
        let text =
            "# ours\n\n one 10.0.0.1 # here\ntwo\t10.0.0.2\ntwo ::ffff:10.1.0.2\nsix fe80::6";
        let list = Allow::parse(text).unwrap();
        let table = [
            ("one", "10.0.0.1"),
            ("two", "10.0.0.2"),
            ("two", "10.1.0.2"),
            ("six", "fe80::6"),
        ];
        for (name, address) in table {
            assert!(list.admits(name, ip(address)).is_ok(), "{name} {address}");
        }
        // A listener on an IPv6 socket sees IPv4 callers so.
        assert!(list.admits("one", ip("::ffff:10.0.0.1")).is_ok());
        let elsewhere = list.admits("one", ip("10.0.0.2"));
        assert!(matches!(elsewhere, Err(Refusal::Elsewhere { .. })));
        for name in ["three", "ONE", "one ", ""] {
            let unlisted = list.admits(name, ip("10.0.0.1"));
            assert!(
                matches!(unlisted, Err(Refusal::Unlisted { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let table = [
            ("one", 1, "without an address"),
            ("one 10.0.0.1\n\ntwo host2", 3, "no numeric address"),
            ("one 10.0.0.1:7000", 1, "no numeric address"),
            ("# x\none 10.0.0.1 10.0.0.2", 2, "more than"),
            ("one 0.0.0.0", 1, "nobody's"),
            (&format!("{} 10.0.0.1", "n".repeat(65)), 1, "at most 64"),
        ];
        for (text, line, what) in table {
            let (at, said) = Allow::parse(text).unwrap_err();
            assert_eq!(at, line, "{text:?}");
            assert!(said.contains(what), "{said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,300}") {
            let _ = Allow::parse(&text);
        }
    }
}
