//! What `munmap`, `mprotect`, `mremap` and `madvise` do to attachments (behaviours
//! 91 to 111): the same as in the kernel, step by step, seen from both nodes.
//! Segments have eight pages; slot 0 is the first attachment.

use dipc_tests::twins::Twins;
use dipc_tests::{CREATE, Mode, in_each_mode, wait};

in_each_mode!(
    munmap_of_a_whole_attachment_detaches_it,
    what_munmap_leaves_is_an_attachment_that_shmdt_finds_by_its_base,
    the_last_piece_that_is_unmapped_detaches,
    one_munmap_covers_pieces_of_two_segments_and_foreign_memory,
    arguments_that_munmap_refuses_change_nothing,
    a_read_only_attachment_never_becomes_writable,
    mprotect_of_a_part_makes_mappings_of_their_own_that_count,
    mremap_moves_an_attachment_which_is_found_at_its_new_place_only,
    a_part_that_was_moved_is_detached_by_the_base_it_would_have,
    mremap_shrinks_in_place_and_grows_by_moving,
    mremap_doubles_an_attachment_by_size_zero_and_by_dontunmap,
    what_mremap_refuses_it_refuses_alike,
    foreign_memory_that_is_mapped_or_moved_over_an_attachment_replaces_it,
    shm_remap_replaces_what_lies_there_and_nothing_else_does,
    a_shmat_that_fails_leaves_the_times_and_the_pid_of_others,
    a_removed_segment_ends_with_a_shmat_that_fails_only_if_nobody_has_it,
    addresses_are_honoured_exactly_or_refused,
    shm_exec_asks_for_execute_permission_and_shm_lock_is_a_mark,
    advice_loses_no_byte_but_what_is_removed,
    what_is_kept_from_children_they_do_not_have,
    pieces_are_inherited_and_go_with_the_process,
    changed_mappings_stay_coherent_between_nodes,
    a_page_that_is_dropped_while_another_node_writes_it_shows_no_zeros_and_nothing_old,
    zeros_by_madv_remove_are_zeros_on_every_node,
    another_node_writes_pages_that_were_unmapped_here,
);

const PAGE: i64 = 4096;
const SIZE: i64 = 8 * PAGE;
const RDONLY: u32 = 0o10000;
const RND: u32 = 0o20000;
const REMAP: u32 = 0o40000;
const EXEC: u32 = 0o100000;
/// `PROT_*`
const READ: u32 = 1;
const WRITE: u32 = 2;
const EXECUTE: u32 = 4;
/// `MREMAP_*`
const MAYMOVE: u32 = 1;
const FIXED: u32 = 2;
const DONTUNMAP: u32 = 4;
/// `MADV_*`
const DONTNEED: u32 = 4;
const FREE: u32 = 8;
const REMOVE: u32 = 9;
const DONTFORK: u32 = 10;
const DOFORK: u32 = 11;

fn twins(mode: Mode, what: &str) -> Option<Twins> {
    Twins::with(what, mode.nodes(2))
}

/// Twins with a segment attached at slot 0.
fn attached(mode: Mode, what: &str) -> Option<Twins> {
    let mut twins = twins(mode, what)?;
    twins.segment(SIZE);
    twins.all("shmat $0 0");
    Some(twins)
}

/// `4P` means four pages.
fn pages(command: &str) -> String {
    let word = |word: &str| match word.strip_suffix('P').map(str::parse::<i64>) {
        Some(Ok(pages)) => (pages * PAGE).to_string(),
        _ => word.to_owned(),
    };
    command.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn munmap_of_a_whole_attachment_detaches_it(mode: Mode) {
    let Some(mut twins) = attached(mode, "munmap") else {
        return;
    };
    twins.all(&pages("munmap 0 0 8P"));
    assert_eq!(twins.all("peek 0 0"), "! SIGSEGV");
    assert_eq!(twins.all("shmdt 0"), "! EINVAL");
    assert_eq!(twins.all("shmwho $0"), "= 0 1 1 1");
}

fn what_munmap_leaves_is_an_attachment_that_shmdt_finds_by_its_base(mode: Mode) {
    let Some(mut twins) = attached(mode, "munmap of a part") else {
        return;
    };
    for (unmap, left) in [("0 0 2P", 1), ("0 6P 2P", 1), ("0 3P 2P", 2)] {
        twins.all("poke 0 8192 5");
        twins.all(&pages(&format!("munmap {unmap}")));
        assert_eq!(twins.all("peek 0 8192"), "= 5");
        assert_eq!(twins.all("shmstat $0").numbers()[0], left);
        assert_eq!(twins.all(&pages("shmdt_at 0 5P")), "! EINVAL");
    }
    twins.all("shmdt_at 0 0");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 0);
    assert_eq!(twins.all("peek 0 8192"), "! SIGSEGV");
    assert_eq!(twins.all("shmdt_at 0 0"), "! EINVAL");
}

fn the_last_piece_that_is_unmapped_detaches(mode: Mode) {
    let Some(mut twins) = attached(mode, "munmap piece by piece") else {
        return;
    };
    for piece in ["2P 2P", "0 2P", "6P 2P", "4P 1P", "0 8P", "0 8P"] {
        twins.all(&pages(&format!("munmap 0 {piece}")));
    }
    assert_eq!(twins.all("shmstat $0").numbers()[0], 0);
}

fn one_munmap_covers_pieces_of_two_segments_and_foreign_memory(mode: Mode) {
    let Some(mut twins) = twins(mode, "munmap over several") else {
        return;
    };
    twins.segment(SIZE);
    twins.segment(SIZE);
    twins.only(&pages("reserve 64P"));
    for at in ["$0 0 8P", "$1 0 20P"] {
        twins.all(&pages(&format!("shmat_at {at} {REMAP}")));
    }
    twins.all("poke 2 0 3");
    twins.all(&pages("munmap 0 12P 12P"));
    assert_eq!(twins.all("peek 1 0"), "= 0");
    assert_eq!(twins.all(&pages("peek 1 4P")), "! SIGSEGV");
    assert_eq!(twins.all(&pages("peek 2 4P")), "= 0");
    twins.all("shmdt 1");
    twins.all("shmdt 2");
}

fn arguments_that_munmap_refuses_change_nothing(mode: Mode) {
    let Some(mut twins) = attached(mode, "munmap's errors") else {
        return;
    };
    for bad in ["0 1 4096", "0 0 0"] {
        assert_eq!(twins.all(&format!("munmap {bad}")), "! EINVAL");
    }
    assert_eq!(twins.all("peek 0 0"), "= 0");
}

fn a_read_only_attachment_never_becomes_writable(mode: Mode) {
    let Some(mut twins) = twins(mode, "mprotect of SHM_RDONLY") else {
        return;
    };
    twins.segment(SIZE);
    twins.all(&format!("shmat $0 {RDONLY}"));
    for prot in [READ | WRITE, WRITE, READ | WRITE | EXECUTE] {
        let protect = format!("protect 0 0 {PAGE} {prot}");
        assert_eq!(twins.all(&protect), "! EACCES");
    }
    assert_eq!(twins.all("poke 0 0 1"), "! SIGSEGV");
    for prot in [0, READ | EXECUTE, READ] {
        twins.all(&pages(&format!("protect 0 2P 1P {prot}")));
    }
    assert_eq!(twins.all("peek 0 8192"), "= 0");
    // Foreign memory before it is changed, that behind it is not.
    twins.only(&pages("reserve 16P"));
    twins.all(&pages(&format!("shmat_at $0 1 4P {}", RDONLY | REMAP)));
    let all = format!("protect 1 0 16P {}", READ | WRITE);
    assert_eq!(twins.all(&pages(&all)), "! EACCES");
    assert_eq!(twins.all("poke 1 0 1"), "= 0");
    assert_eq!(twins.all(&pages("poke 1 4P 1")), "! SIGSEGV");
    assert_eq!(twins.all(&pages("poke 1 14P 1")), "! SIGSEGV");
}

fn mprotect_of_a_part_makes_mappings_of_their_own_that_count(mode: Mode) {
    let Some(mut twins) = attached(mode, "mprotect of a part") else {
        return;
    };
    twins.all("poke 0 8192 7");
    for (part, prot) in [
        ("2P 2P", READ),
        ("2P 2P", READ),
        ("2P 2P", READ | WRITE),
        ("0 8P", READ),
        ("2P 1P", 0),
        ("0 8P", READ | WRITE),
    ] {
        twins.all(&pages(&format!("protect 0 {part} {prot}")));
        twins.all("poke 0 0 1");
        twins.all("poke 0 8192 7");
        twins.all("peek 0 8192");
    }
    assert_eq!(twins.all("shmstat $0").numbers()[0], 4);
    twins.all("shmdt 0");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 0);
}

fn mremap_moves_an_attachment_which_is_found_at_its_new_place_only(mode: Mode) {
    let Some(mut twins) = attached(mode, "mremap") else {
        return;
    };
    twins.only(&pages("reserve 64P"));
    twins.all("poke 0 4096 5");
    let to = MAYMOVE | FIXED;
    assert_eq!(
        twins.all(&pages(&format!("mremap 0 0 8P 8P {to} 1 8P"))),
        "= 2"
    );
    assert_eq!(twins.all("apart 1 2"), format!("= {SIZE}").as_str());
    assert_eq!(twins.all("peek 0 4096"), "! SIGSEGV");
    assert_eq!(twins.all("peek 2 4096"), "= 5");
    // Never touched before: not zeros of this node's, but the segment's.
    twins.all("poke 2 8192 6");
    assert_eq!(twins.all("shmdt_at 0 0"), "! EINVAL");
    twins.all("shmdt 2");
    assert_eq!(twins.all("peek 2 4096"), "! SIGSEGV");
}

fn a_part_that_was_moved_is_detached_by_the_base_it_would_have(mode: Mode) {
    let Some(mut twins) = attached(mode, "mremap of a part") else {
        return;
    };
    twins.only(&pages("reserve 64P"));
    let to = MAYMOVE | FIXED;
    twins.all(&pages("fill 0 0 8P 3"));
    twins.all(&pages(&format!("mremap 0 2P 2P 2P {to} 1 8P")));
    assert_eq!(twins.all("shmstat $0").numbers()[0], 3);
    assert_eq!(twins.all(&pages("differ 2 0 2P 3")), "= 0");
    assert_eq!(twins.all("shmdt_at 2 0"), "! EINVAL");
    twins.all("shmdt_at 2 -8192");
    twins.all("shmdt 0");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 0);
}

fn mremap_shrinks_in_place_and_grows_by_moving(mode: Mode) {
    let Some(mut twins) = attached(mode, "mremap to another size") else {
        return;
    };
    twins.all(&pages("poke 0 5P 9"));
    twins.all(&pages("mremap 0 0 8P 3P 0"));
    assert_eq!(twins.all("apart 0 1"), "= 0");
    assert_eq!(twins.all(&pages("peek 0 5P")), "! SIGSEGV");
    assert_eq!(twins.all(&pages("mremap 0 0 2P 3P 0")), "! ENOMEM");
    twins.only(&pages(&format!("mremap 0 0 3P 6P {MAYMOVE}")));
    assert_eq!(twins.all(&pages("peek 2 5P")), "= 9");
    twins.all("shmdt 2");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 0);
}

fn mremap_doubles_an_attachment_by_size_zero_and_by_dontunmap(mode: Mode) {
    let Some(mut twins) = attached(mode, "mremap that doubles") else {
        return;
    };
    twins.all("poke 0 0 9");
    twins.only(&pages(&format!("mremap 0 0 0 8P {MAYMOVE}")));
    twins.only(&pages(&format!("mremap 0 0 8P 8P {}", MAYMOVE | DONTUNMAP)));
    for slot in 0..3 {
        assert_eq!(twins.all(&format!("peek {slot} 0")), "= 9");
    }
    twins.all("poke 2 4096 8");
    assert_eq!(twins.all("peek 0 4096"), "= 8");
    for slot in 0..3 {
        twins.all(&format!("shmdt {slot}"));
    }
    assert_eq!(twins.all("shmstat $0").numbers()[0], 0);
}

fn what_mremap_refuses_it_refuses_alike(mode: Mode) {
    let Some(mut twins) = attached(mode, "mremap's errors") else {
        return;
    };
    for (arguments, errno) in [
        ("0 1 1P 1P 0".to_owned(), "! EINVAL"),
        ("0 0 1P 0 0".to_owned(), "! EINVAL"),
        ("0 0 1P 1P 8".to_owned(), "! EINVAL"),
        (format!("0 0 1P 1P {FIXED} 0 0"), "! EINVAL"),
        (format!("0 0 2P 2P {} 0 1P", MAYMOVE | FIXED), "! EINVAL"),
        (format!("0 0 1P 1P {DONTUNMAP}"), "! EINVAL"),
        ("0 0 0 1P 0".to_owned(), "! ENOMEM"),
        ("0 0 8P 12P 0".to_owned(), "! ENOMEM"),
    ] {
        let command = pages(&format!("mremap {arguments}"));
        assert_eq!(twins.all(&command), errno, "{command}");
    }
    assert_eq!(twins.all("peek 0 0"), "= 0");
}

fn foreign_memory_that_is_mapped_or_moved_over_an_attachment_replaces_it(mode: Mode) {
    let Some(mut twins) = attached(mode, "mapping over an attachment") else {
        return;
    };
    twins.all(&pages("cover 0 2P 2P"));
    twins.all(&pages("poke 0 2P 4"));
    twins.only(&pages("reserve 4P"));
    twins.all(&pages(&format!("protect 1 0 1P {}", READ | WRITE)));
    twins.all(&pages("poke 1 0 6"));
    twins.all(&pages(&format!(
        "mremap 1 0 1P 1P {} 0 6P",
        MAYMOVE | FIXED
    )));
    assert_eq!(twins.all(&pages("peek 0 6P")), "= 6");
    twins.all("shmdt_at 0 0");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 0);
    assert_eq!(twins.all(&pages("peek 0 2P")), "= 4");
    assert_eq!(twins.all(&pages("peek 0 6P")), "= 6");
}

fn shm_remap_replaces_what_lies_there_and_nothing_else_does(mode: Mode) {
    let Some(mut twins) = attached(mode, "SHM_REMAP") else {
        return;
    };
    twins.segment(4 * PAGE);
    twins.all("poke 0 0 1");
    assert_eq!(twins.all("shmat_at $1 0 0 0"), "! EINVAL");
    assert_eq!(twins.all(&pages("shmat_at $1 0 6P 0")), "! EINVAL");
    assert_eq!(twins.all("shmwho $1"), "= 0 0 0 0");
    twins.all(&pages(&format!("shmat_at $1 0 2P {REMAP}")));
    twins.all("poke 1 0 2");
    assert_eq!(twins.all("peek 0 0"), "= 1");
    assert_eq!(twins.all(&pages("peek 0 2P")), "= 2");
    assert_eq!(twins.all(&pages("peek 0 6P")), "= 0");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 2);
    twins.all("shmdt 0");
    assert_eq!(twins.all("peek 1 0"), "= 2");
    twins.all("shmdt 1");
    assert_eq!(twins.all(&format!("shmat $0 {REMAP}")), "! EINVAL");
}

fn a_shmat_that_fails_leaves_the_times_and_the_pid_of_others(mode: Mode) {
    let Some(mut twins) = attached(mode, "shmat of a taken address") else {
        return;
    };
    twins.segment(SIZE);
    twins.ask("fork");
    twins.soon("child 0 shmat $1 0");
    assert_eq!(twins.only("shmwho $1"), "= 1 0 1 0");
    assert_eq!(twins.all("shmat_at $1 0 0 0"), "! EINVAL");
    assert_eq!(twins.all("shmwho $1"), "= 1 0 1 0");
    twins.all("shmat $1 0");
    assert_eq!(twins.all("shmwho $1"), "= 2 1 1 0");
    assert_eq!(twins.all("shmat_at $1 0 0 0"), "! EINVAL");
    assert_eq!(twins.all("shmwho $1"), "= 2 1 1 0");
}

fn a_removed_segment_ends_with_a_shmat_that_fails_only_if_nobody_has_it(mode: Mode) {
    let Some(mut twins) = attached(mode, "shmat of a removed segment") else {
        return;
    };
    twins.all("shmrm $0");
    assert_eq!(twins.all("shmat_at $0 0 0 0"), "! EINVAL");
    assert_eq!(twins.all("shmwho $0"), "= 1 1 1 0");
    twins.all("shmdt 0");
    assert_eq!(twins.all("shmat $0 0"), "! EINVAL");
}

fn addresses_are_honoured_exactly_or_refused(mode: Mode) {
    let Some(mut twins) = attached(mode, "shmat at an address") else {
        return;
    };
    twins.all("shmdt_at 0 0");
    assert_eq!(twins.all("shmat_at $0 0 1 0"), "! EINVAL");
    assert_eq!(twins.all(&format!("shmat_at $0 0 100 {RND}")), "= 1");
    assert_eq!(twins.all("apart 0 1"), "= 0");
    assert_eq!(twins.all("shmat_at $0 0 0 0"), "! EINVAL");
    for (address, flags) in [(5, RND | REMAP), (-8 * PAGE, 0), (0x7fff_ffff_f000, 0)] {
        twins.all(&format!("shmat_low $0 {address} {flags}"));
    }
    twins.all("shmdt 1");
}

fn shm_exec_asks_for_execute_permission_and_shm_lock_is_a_mark(mode: Mode) {
    let Some(mut twins) = attached(mode, "SHM_EXEC and SHM_LOCK") else {
        return;
    };
    twins.all(&format!("shmat $0 {EXEC}"));
    twins.all(&format!("shmat $0 {}", EXEC | RDONLY));
    assert_eq!(twins.all("shmlock $0"), "= 0");
    assert_eq!(twins.all("shmstat $0").numbers()[2], 2600);
    assert_eq!(twins.all("shmunlock $0"), "= 0");
    assert_eq!(twins.all("shmstat $0").numbers()[2], 600);
}

fn advice_loses_no_byte_but_what_is_removed(mode: Mode) {
    let Some(mut twins) = attached(mode, "madvise") else {
        return;
    };
    twins.all(&pages("fill 0 0 8P 3"));
    assert_eq!(
        twins.all(&pages(&format!("madvise 0 0 8P {DONTNEED}"))),
        "= 0"
    );
    assert_eq!(twins.all(&pages("differ 0 0 8P 3")), "= 0");
    assert_eq!(
        twins.all(&pages(&format!("madvise 0 0 8P {FREE}"))),
        "! EINVAL"
    );
    assert_eq!(
        twins.all(&pages(&format!("madvise 0 2P 2P {REMOVE}"))),
        "= 0"
    );
    assert_eq!(twins.all(&pages("differ 0 2P 2P 0")), "= 0");
    assert_eq!(twins.all(&pages("differ 0 4P 4P 3")), "= 0");
    twins.all(&format!("shmat $0 {RDONLY}"));
    assert_eq!(
        twins.all(&pages(&format!("madvise 1 0 1P {REMOVE}"))),
        "! EACCES"
    );
}

fn what_is_kept_from_children_they_do_not_have(mode: Mode) {
    let Some(mut twins) = attached(mode, "MADV_DONTFORK") else {
        return;
    };
    twins.all("poke 0 0 5");
    twins.all(&pages(&format!("madvise 0 2P 2P {DONTFORK}")));
    assert_eq!(twins.all("shmstat $0").numbers()[0], 3);
    twins.ask("fork");
    twins.soon("child 0 peek 0 0");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 5);
    assert_eq!(twins.all("child 0 peek 0 0"), "= 5");
    assert_eq!(twins.all(&pages("child 0 peek 0 2P")), "! SIGSEGV");
    twins.all("child 0 shmdt 0");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 3);
    twins.all(&pages(&format!("madvise 0 2P 2P {DOFORK}")));
    twins.all(&pages(&format!("madvise 0 0 8P {DONTFORK}")));
    twins.ask("fork");
    twins.soon("child 1 peek 0 0");
    assert_eq!(twins.all("child 1 shmdt 0"), "! EINVAL");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 3);
}

fn pieces_are_inherited_and_go_with_the_process(mode: Mode) {
    let Some(mut twins) = attached(mode, "fork of pieces") else {
        return;
    };
    twins.all(&pages("fill 0 0 8P 3"));
    twins.all(&pages("munmap 0 2P 2P"));
    twins.all(&pages(&format!("protect 0 0 1P {READ}")));
    twins.ask("fork");
    twins.soon(&pages("child 0 differ 0 4P 4P 3"));
    assert_eq!(twins.all("shmstat $0").numbers()[0], 6);
    twins.all(&pages("child 0 munmap 0 5P 1P"));
    assert_eq!(twins.all("shmstat $0").numbers()[0], 7);
    twins.all("child 0 shmdt 0");
    twins.ask("exec");
    twins.soon("shmwho $0");
    assert_eq!(twins.all("shmstat $0").numbers()[0], 0);
}

/// Each node's pages move on while the other changes its mappings: no byte is lost
/// at any place, moved or not, and protection by the daemon stays.
fn changed_mappings_stay_coherent_between_nodes(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|node| cluster.program(node));
    let id = one.must(format!("shmget 0 {SIZE} {CREATE}"));
    one.must(format!("shmat {id} 0"));
    two.must(format!("shmat {id} 0"));
    let mut slot = 0;
    for round in 1..40 {
        let offset = round % 8 * PAGE;
        one.must(format!("poke 0 {offset} {round}"));
        assert_eq!(two.must(format!("peek {slot} {offset}")), round);
        if round % 2 == 0 {
            two.must(format!("madvise {slot} 0 {SIZE} {DONTNEED}"));
        } else {
            let moved = format!("mremap {slot} 0 0 {SIZE} {MAYMOVE}");
            let new = two.must(moved);
            two.must(format!("shmdt {slot}"));
            slot = new;
        }
        assert_eq!(two.must(format!("peek {slot} {offset}")), round);
        two.must(format!("poke {slot} {offset} {}", -round));
        assert_eq!(one.must(format!("peek 0 {offset}")), -round);
    }
    assert_eq!(one.must(format!("shmstat {id}")), 2);
}

/// Dropping a page makes its next access a fault, at any moment of what the other
/// node does with it: what the fault finds is neither a hole nor what was.
fn a_page_that_is_dropped_while_another_node_writes_it_shows_no_zeros_and_nothing_old(mode: Mode) {
    const STEPS: i64 = 3_000;
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|node| cluster.program(node));
    let id = one.must(format!("shmget 0 {SIZE} {CREATE}"));
    for program in [&mut one, &mut two] {
        program.must(format!("shmat {id} 0"));
    }
    // Each node's turn to write, since one of them is the segment's home.
    let [mut writer, mut reader] = [&mut one, &mut two];
    for page in 0..2 {
        let word = page * PAGE;
        reader.begin(format!("drop_rising 0 {word} {STEPS}"));
        assert_eq!(writer.must(format!("count_to 0 {word} {STEPS}")), 0);
        assert_eq!(reader.answer(), "= 0");
        std::mem::swap(&mut writer, &mut reader);
    }
    // Both write, and both drop.
    let word = 2 * PAGE;
    one.begin(format!("drop_xadd 0 {word} {STEPS}"));
    assert_eq!(two.must(format!("drop_xadd 0 {word} {STEPS}")), 0);
    assert_eq!(one.answer(), "= 0");
    for program in [&mut one, &mut two] {
        assert_eq!(program.must(format!("peek 0 {word}")), 2 * STEPS);
    }
}

fn zeros_by_madv_remove_are_zeros_on_every_node(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|node| cluster.program(node));
    let id = one.must(format!("shmget 0 {SIZE} {CREATE}"));
    for program in [&mut one, &mut two] {
        program.must(format!("shmat {id} 0"));
    }
    one.must(format!("fill 0 0 {SIZE} 3"));
    assert_eq!(two.must(format!("differ 0 0 {SIZE} 3")), 0);
    two.must(format!("madvise 0 {PAGE} {PAGE} {REMOVE}"));
    assert_eq!(one.must(format!("differ 0 {PAGE} {PAGE} 0")), 0);
    assert_eq!(one.must(format!("differ 0 0 {PAGE} 3")), 0);
}

/// A page that has left the node while its mapping was unmapped in part is nobody's
/// error: the other node gets it, and nobody is taken for dead.
fn another_node_writes_pages_that_were_unmapped_here(mode: Mode) {
    let cluster = mode.cluster(2);
    let [mut one, mut two] = [1, 2].map(|node| cluster.program(node));
    let id = one.must(format!("shmget 0 {SIZE} {CREATE}"));
    for program in [&mut one, &mut two] {
        program.must(format!("shmat {id} 0"));
    }
    one.must(format!("fill 0 0 {SIZE} 3"));
    one.must(format!("munmap 0 {PAGE} {}", 6 * PAGE));
    for page in 0..8 {
        assert_eq!(two.must(format!("differ 0 {} {PAGE} 3", page * PAGE)), 0);
        two.must(format!("poke 0 {} {page}", page * PAGE));
    }
    assert_eq!(one.must(format!("peek 0 {}", 7 * PAGE)), 7);
    one.must("shmdt 0");
    wait::until("one attachment is left", || {
        two.must(format!("shmstat {id}")) == 1
    });
}
