//! How two builds that speak ranges of versions find the one they share.

use dipc_wire::peer::common_version;
use dipc_wire::{peer, referee};

#[test]
fn two_ranges_agree_on_the_highest_version_in_both_or_on_none() {
    #[rustfmt::skip]
    let table = [
        // one range   the other   what they speak
        ((1, 1),       (1, 1),     Some(1)), // the same build
        ((1, 3),       (1, 2),     Some(2)), // one is newer
        ((1, 3),       (2, 5),     Some(3)), // each knows what the other does not
        ((1, 9),       (4, 6),     Some(6)), // one range within the other
        ((1, 2),       (2, 3),     Some(2)), // they only touch
        ((1, 2),       (3, 4),     None),    // the newer has forgotten the older
        ((0, 0),       (1, 1),     None),
        ((0, u16::MAX), (7, u16::MAX), Some(u16::MAX)),
        ((5, 2),       (1, 9),     None),    // a range that is none
        ((5, 2),       (5, 2),     None),
    ];
    for (one, other, expected) in table {
        assert_eq!(common_version(one, other), expected, "{one:?} {other:?}");
        assert_eq!(common_version(other, one), expected, "{other:?} {one:?}");
    }
}

#[test]
fn this_build_speaks_with_itself() {
    for range in [peer::VERSIONS, referee::VERSIONS] {
        assert_eq!(common_version(range, range), Some(range.1));
    }
}
