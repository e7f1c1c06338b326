//! Limits as people write them: `shmmni=4096`, or a file of such lines.
//!
//! ```text
//! # one limit a line; the others keep the kernel's default
//! shmmni = 8192
//! semopm = 1000
//! ```

use thiserror::Error;

use super::Limits;
use crate::call::SemOp;
use crate::frame::MAX_PAYLOAD;

/// The largest value of `shmmni`, `semmni` and `msgmni`. A node that comes back
/// to its referee says all that it has; this is what both keep up with.
pub const MOST_OBJECTS: u64 = 1 << 18;
/// The largest `int`, in which the kernel's `*_INFO` tells most limits.
const INT: u64 = i32::MAX as u64;

/// What is written when a limit is named wrongly.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum BadLimit {
    /// No `=`, or nothing on a side of it.
    #[error("{0:?} sets no limit: write name=value, such as shmmni=8192")]
    Form(String),
    /// A name that none of the ten has.
    #[error("there is no limit {0:?}: there are {names}", names = names())]
    Name(String),
    /// No whole number, in decimal.
    #[error("{name}={value:?}: the value must be a whole number")]
    Number {
        /// Of which limit.
        name: &'static str,
        /// What was written.
        value: String,
    },
    /// A number that dipc cannot keep to.
    #[error("{name}={value}: dipc supports {least} to {most} {unit}")]
    Range {
        /// Of which limit.
        name: &'static str,
        /// What was written.
        value: u64,
        /// The smallest value.
        least: u64,
        /// The largest value.
        most: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A message that no new queue could ever take.
    #[error(
        "msgmax={msgmax} is above msgmnb={msgmnb}: whoever sent so long a message to a new queue \
         would wait for ever; raise msgmnb, or lower msgmax"
    )]
    MessageFitsNoQueue {
        /// Bytes of a message.
        msgmax: u64,
        /// Bytes of a queue.
        msgmnb: u64,
    },
}

/// A name, and what may be written behind it.
struct Row {
    name: &'static str,
    unit: &'static str,
    least: u64,
    most: u64,
    field: fn(&mut Limits) -> &mut u64,
}

/// In the order of [`Limits`]. The largest values are what ids, frames and the
/// fields of the kernel's structures hold; those of `shmmax` and `shmall` are its
/// defaults.
static ROWS: [Row; 10] = [
    Row {
        name: "shmmax",
        unit: "bytes of a segment",
        least: 1,
        most: Limits::LINUX.shmmax,
        field: |limits| &mut limits.shmmax,
    },
    Row {
        name: "shmall",
        unit: "pages of 4096 bytes",
        least: 0,
        most: Limits::LINUX.shmall,
        field: |limits| &mut limits.shmall,
    },
    Row {
        name: "shmmni",
        unit: "segments",
        least: 0,
        most: MOST_OBJECTS,
        field: |limits| &mut limits.shmmni,
    },
    Row {
        name: "semmsl",
        unit: "semaphores of a set",
        least: 1,
        most: u16::MAX as u64,
        field: |limits| &mut limits.semmsl,
    },
    Row {
        name: "semmns",
        unit: "semaphores",
        least: 0,
        most: INT,
        field: |limits| &mut limits.semmns,
    },
    Row {
        name: "semopm",
        unit: "operations of a call",
        least: 1,
        most: (MAX_PAYLOAD / SemOp::BYTES) as u64,
        field: |limits| &mut limits.semopm,
    },
    Row {
        name: "semmni",
        unit: "sets",
        least: 0,
        most: MOST_OBJECTS,
        field: |limits| &mut limits.semmni,
    },
    Row {
        name: "msgmax",
        unit: "bytes of a message",
        least: 0,
        most: MAX_PAYLOAD as u64,
        field: |limits| &mut limits.msgmax,
    },
    Row {
        name: "msgmnb",
        unit: "bytes of a queue",
        least: 0,
        most: INT,
        field: |limits| &mut limits.msgmnb,
    },
    Row {
        name: "msgmni",
        unit: "queues",
        least: 0,
        most: MOST_OBJECTS,
        field: |limits| &mut limits.msgmni,
    },
];

fn names() -> String {
    ROWS.each_ref().map(|row| row.name).join(", ")
}

impl Limits {
    /// The kernel's defaults, changed by the lines of a file, then by single
    /// settings `name=value`, each in its order.
    ///
    /// # Errors
    /// The first that is not understood or not supported; then a combination
    /// that makes no sense.
    pub fn written<'a>(
        file: &'a str,
        settings: impl IntoIterator<Item = &'a str>,
    ) -> Result<Limits, BadLimit> {
        let mut limits = Limits::LINUX;
        let lines = file
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .filter(|line| !line.trim().is_empty());
        for setting in lines.chain(settings) {
            limits.change(setting)?;
        }
        let Limits { msgmax, msgmnb, .. } = limits;
        if msgmax > msgmnb {
            return Err(BadLimit::MessageFitsNoQueue { msgmax, msgmnb });
        }
        Ok(limits)
    }

    /// Names and values, all ten.
    pub fn each(mut self) -> [(&'static str, u64); 10] {
        ROWS.each_ref()
            .map(|row| (row.name, *(row.field)(&mut self)))
    }

    fn change(&mut self, setting: &str) -> Result<(), BadLimit> {
        let form = || BadLimit::Form(setting.trim().to_owned());
        let (name, value) = setting.split_once('=').ok_or_else(form)?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || value.is_empty() {
            return Err(form());
        }
        let row = ROWS.iter().find(|row| row.name == name);
        let row = row.ok_or_else(|| BadLimit::Name(name.to_owned()))?;
        let name = row.name;
        let number: u64 = value.parse().map_err(|_| BadLimit::Number {
            name,
            value: value.to_owned(),
        })?;
        if !(row.least..=row.most).contains(&number) {
            return Err(BadLimit::Range {
                name,
                value: number,
                least: row.least,
                most: row.most,
                unit: row.unit,
            });
        }
        *(row.field)(self) = number;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(settings: &[&str]) -> Result<Limits, String> {
        Limits::written("", settings.iter().copied()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_changes_the_defaults_and_a_setting_changes_the_file() {
        let file = "# ours\n\n shmmni = 5 # five\nsemmni=7\n";
        let limits = Limits::written(file, ["semmni=8"]).unwrap();
        let expected = Limits {
            shmmni: 5,
            semmni: 8,
            ..Limits::LINUX
        };
        assert_eq!(limits, expected);
        assert_eq!(Limits::written("", []), Ok(Limits::LINUX));
    }

    #[test]
    fn each_name_sets_its_own_limit_and_takes_its_largest_value() {
        for row in &ROWS {
            let mut limits = Limits::LINUX;
            limits
                .change(&format!("{}={}", row.name, row.most))
                .unwrap();
            for ((name, before), (_, after)) in Limits::LINUX.each().into_iter().zip(limits.each())
            {
                let expected = if name == row.name { row.most } else { before };
                assert_eq!(after, expected, "{name} when {} was set", row.name);
            }
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_what_can() {
        for (setting, reason) in [
            ("", "sets no limit"),
            ("shmmni", "sets no limit"),
            ("=5", "sets no limit"),
            ("shmmni=", "sets no limit"),
            ("shmmin=1", "there are shmmax, shmall, shmmni, semmsl"),
            ("shmmni=-1", "must be a whole number"),
            ("shmmni=1k", "must be a whole number"),
            ("shmmni=99999999999999999999", "must be a whole number"),
            ("semmsl=65536", "supports 1 to 65535 semaphores of a set"),
            ("shmmax=0", "supports 1 to"),
            ("semopm=2796203", "supports 1 to 2796202 operations"),
            ("msgmax=16777217", "supports 0 to 16777216 bytes"),
            ("shmmni=262145", "supports 0 to 262144 segments"),
            ("semmns=2147483648", "supports 0 to 2147483647 semaphores"),
        ] {
            let error = written(&[setting]).unwrap_err();
            assert!(error.contains(reason), "{setting}: {error}");
        }
    }

    #[test]
    fn a_message_must_fit_a_new_queue() {
        let error = written(&["msgmax=65536"]).unwrap_err();
        assert!(error.contains("raise msgmnb"), "{error}");
        assert!(written(&["msgmax=65536", "msgmnb=65536"]).is_ok());
    }
}
