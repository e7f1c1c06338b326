//! Which objects are distributed: by flag, by key, by id.

use dipc_wire::call::{PRIVATE, flags};
use dipc_wire::{Kind, ObjectId};
use libc::c_int;

use crate::kernel;
use crate::outcome::{Detour, Escape};
use crate::settings::{self, Settings};

/// The keys that `DIPC_KEYS` declares distributed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Keys {
    /// First and last, inclusive. Keys are compared without sign, as `ipcs` shows them.
    ranges: Vec<(u32, u32)>,
    /// `IPC_PRIVATE` too.
    private: bool,
    /// The first item that is no key, range or known word.
    pub(crate) misunderstood: Option<String>,
}

impl Keys {
    /// Reads `none`, `all`, or a comma-separated list of keys, ranges and
    /// `private`. An item that is not understood selects nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let mut keys = Keys::default();
        for item in text.split(',').map(str::trim) {
            match item {
                "" | "none" => {}
                "all" => {
                    keys.ranges.push((0, u32::MAX));
                    keys.private = true;
                }
                "private" => keys.private = true,
                _ => match range(item) {
                    Some(range) => keys.ranges.push(range),
                    None => keys.misunderstood = keys.misunderstood.or(Some(item.to_owned())),
                },
            }
        }
        keys
    }

    /// Whether every key is one of them, and `IPC_PRIVATE` too.
    pub(crate) fn are_all(&self) -> bool {
        self.private && self.ranges.contains(&(0, u32::MAX))
    }

    /// Whether `key` is one of them.
    pub(crate) fn contain(&self, key: i32) -> bool {
        if key == PRIVATE {
            return self.private;
        }
        self.ranges
            .iter()
            .any(|&(first, last)| (first..=last).contains(&(key as u32)))
    }
}

/// `KEY` or `FIRST-LAST`.
fn range(item: &str) -> Option<(u32, u32)> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (first <= last).then_some((first, last))
}

/// Decimal, or hexadecimal behind `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// For a `*get` call: the flags to send to the daemon, or bypass.
pub(crate) fn by_key(kind: Kind, key: i32, size: u64, flags: c_int) -> Detour<u32> {
    let settings = settings::get();
    if chosen(settings, key, flags as u32)
        || looked_up_by_tool(settings, key, flags as u32)
            && kernel::find(kind, key, size, flags) == Err(libc::ENOENT)
    {
        Ok(flags as u32 & !flags::OWN)
    } else {
        Err(Escape::Bypass)
    }
}

/// A person gives `ipcrm` a key of whatever `ipcs` has shown, and `ipcs` shows
/// both worlds. So in these programs, and no others, a key that the kernel does
/// not have is looked up in the cluster.
fn looked_up_by_tool(settings: &Settings, key: i32, flags: u32) -> bool {
    settings.tool && key != PRIVATE && flags & flags::CREAT == 0
}

fn chosen(settings: &Settings, key: i32, flags: u32) -> bool {
    settings.flag_counts && flags & flags::DIPC != 0 || settings.keys.contain(key)
}

/// For every other call: the distributed object's id, or bypass.
pub(crate) fn by_id(id: c_int) -> Detour<ObjectId> {
    ObjectId::from_raw(id).ok_or(Escape::Bypass)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_keys_ranges_and_private() {
        let keys = Keys::parse("0x1234, 0x5000-0x5fff,77,private");
        for key in [0x1234, 0x5000, 0x5abc, 0x5fff, 77, PRIVATE] {
            assert!(keys.contain(key), "{key:#x}");
        }
        for key in [0x1233, 0x4fff, 0x6000, 78] {
            assert!(!keys.contain(key), "{key:#x}");
        }
        assert_eq!(keys.misunderstood, None);
    }

    #[test]
    fn all_means_every_key_and_none_no_key() {
        for key in [PRIVATE, 1, -1, i32::MIN] {
            assert!(Keys::parse("all").contain(key));
            assert!(!Keys::parse("none").contain(key));
            assert!(!Keys::parse("").contain(key));
        }
        assert!(Keys::parse("0x12,all").are_all());
        assert!(!Keys::parse("private,0x12").are_all());
    }

    #[test]
    fn keys_with_the_sign_bit_are_written_as_ipcs_shows_them() {
        assert!(Keys::parse("0xdeadbeef").contain(0xdead_beef_u32 as i32));
    }

    #[test]
    fn a_range_that_includes_zero_does_not_include_private() {
        assert!(!Keys::parse("0-10").contain(PRIVATE));
    }

    #[test]
    fn what_is_not_understood_is_told_and_selects_nothing() {
        let keys = Keys::parse("0x12,0xzz,9-3,7");
        assert_eq!(keys.misunderstood.as_deref(), Some("0xzz"));
        assert!(keys.contain(0x12) && keys.contain(7) && !keys.contain(5));
    }

    #[test]
    fn a_tool_looks_up_keys_and_makes_nothing() {
        let tool = Settings {
            tool: true,
            ..Settings::default()
        };
        assert!(looked_up_by_tool(&tool, 5, 0));
        assert!(!looked_up_by_tool(&tool, PRIVATE, 0));
        assert!(!looked_up_by_tool(&tool, 5, flags::CREAT | 0o600));
        assert!(!looked_up_by_tool(&Settings::default(), 5, 0));
    }

    #[test]
    fn the_flag_declares_an_object_distributed_unless_it_is_ignored() {
        let counts = Settings {
            flag_counts: true,
            ..Settings::default()
        };
        let ignored = Settings {
            flag_counts: false,
            ..Settings::default()
        };
        assert!(chosen(&counts, 5, flags::DIPC | 0o600));
        assert!(!chosen(&counts, 5, flags::OWN | 0o600));
        assert!(!chosen(&ignored, 5, flags::DIPC | 0o600));
    }
}
