//! Granules of many pages, whose pages are not all alike.

use super::super::contents;
use super::*;

/// The pages of a granule here; as many are supplied at once for a fault.
const PAGES: u64 = 16;
/// Of a segment of one granule and a last one that is cut.
const CUT: u64 = PAGES + 4;

/// A granule as it travels: one byte for each page.
fn payload(pages: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    contents::begin(pages.len() as u64 * PAGE, &mut bytes);
    for (at, &byte) in pages.iter().enumerate() {
        contents::add(at, &[byte; PAGE as usize], &mut bytes);
    }
    bytes
}

/// Pages that are all different, and none of zeros.
fn numbered(pages: u64) -> Vec<u8> {
    (1..=pages as u8).collect()
}

impl Daemon {
    fn install_pages(&mut self, granule: u64, access: Access, pages: &[u8]) {
        let bytes = payload(pages);
        assert!(self.memory.accepts(granule, &bytes));
        self.memory
            .install(granule, access, Some(&bytes), &self.spaces, &self.forks);
    }

    fn install_zeros(&mut self, access: Access) {
        self.memory
            .install(0, access, None, &self.spaces, &self.forks);
    }

    /// Reads a page by a thread of its own, and lets it have what is there.
    fn faulting_read(&mut self, place: Place, access: Access) -> u8 {
        let reader = place.read();
        assert_eq!(self.fault(), (Access::Read, false));
        self.permit(access);
        reader.join().unwrap()
    }

    fn nobody_waits(&self) {
        let news = self.spaces.read(&self.space, &self.forks);
        assert!(news.faults.is_empty(), "{news:?}");
    }
}

fn found(place: Place, pages: std::ops::Range<u64>) -> Vec<u8> {
    pages
        .map(|page| place.page(page).read().join().unwrap())
        .collect()
}

/// Has a page of the program's mapping be one of the kernel's own, as `mlock` does.
fn split(place: Place) {
    let (page, len) = (place.0 as *mut libc::c_void, PAGE as usize);
    // SAFETY: advice on a mapping of ours.
    assert_eq!(unsafe { libc::madvise(page, len, libc::MADV_RANDOM) }, 0);
}

/// Puts something else in the place of a page, without a word to the daemon.
fn replace(place: Place) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: over a mapping of ours, of which nobody holds a reference.
    let new = unsafe {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(place.0 as *mut _, PAGE as usize, prot, flags, -1, 0)
    };
    assert_eq!(new as u64, place.0);
}

#[test]
fn one_fault_brings_all_pages_of_a_granule_and_none_of_the_next() {
    let mut daemon = Daemon::coarse(CUT, PAGES);
    let place = daemon.shared();
    let reader = place.page(3).read();
    assert_eq!(daemon.fault(), (Access::Read, false));
    daemon.install_pages(0, Access::Read, &numbered(PAGES));
    assert_eq!(reader.join().unwrap(), 4);
    assert_eq!(found(place, 0..PAGES), numbered(PAGES));
    daemon.nobody_waits();
    let reader = place.page(PAGES).read();
    assert_eq!(daemon.fault(), (Access::Read, false));
    daemon.install_pages(1, Access::Read, &[91, 92, 93, 94]);
    assert_eq!(reader.join().unwrap(), 91);
    assert_eq!(found(place, PAGES..CUT), [91, 92, 93, 94]);
}

#[test]
fn the_last_granule_ends_with_the_segment() {
    let daemon = Daemon::coarse(CUT, PAGES);
    assert!(daemon.memory.accepts(1, &payload(&numbered(4))));
    for (granule, pages) in [(1, 5), (1, PAGES), (0, 4), (2, 4), (u64::MAX, 4)] {
        let bytes = payload(&numbered(pages));
        assert!(
            !daemon.memory.accepts(granule, &bytes),
            "{granule}: {pages}"
        );
    }
}

#[test]
fn who_waits_for_several_pages_of_a_granule_goes_on_in_every_mapping() {
    let mut daemon = Daemon::coarse(CUT, PAGES);
    let (a, b) = (daemon.shared(), daemon.shared());
    let readers = [a.page(0), a.page(9), b.page(9), b.page(15)].map(|place| {
        let reader = place.read();
        daemon.fault();
        reader
    });
    // Page 9 is zeros, which do not travel.
    let mut pages = numbered(PAGES);
    pages[9] = 0;
    daemon.install_pages(0, Access::Read, &pages);
    let values = readers.map(|reader| reader.join().unwrap());
    assert_eq!(values, [1, 0, 0, 16]);
    let writer = b.page(9).write(7);
    assert_eq!(daemon.fault(), (Access::Write, true), "a read copy");
    daemon.permit(Access::Write);
    writer.join().unwrap();
    assert_eq!(a.page(9).read().join().unwrap(), 7);
}

#[test]
fn what_nobody_touches_takes_no_memory_and_does_not_travel() {
    const MANY: u64 = 1024;
    let mut daemon = Daemon::coarse(MANY, MANY);
    let place = daemon.shared();
    let reader = place.page(500).read();
    daemon.fault();
    daemon.install_zeros(Access::Write);
    assert_eq!(reader.join().unwrap(), 0);
    assert_eq!(daemon.memory.resident(), PAGES * PAGE);
    let writer = place.page(900).write(5);
    assert_eq!(daemon.fault(), (Access::Write, false));
    daemon.permit(Access::Write);
    writer.join().unwrap();
    assert_eq!(daemon.memory.resident(), 2 * PAGES * PAGE);
    daemon.protect();
    daemon.memory.copy(0).unwrap();
    let mut expected = payload(&[0; MANY as usize]);
    assert_eq!(expected.len() as u64, MANY / 8);
    expected[900 / 8] |= 1 << (900 % 8);
    expected.push(5);
    expected.resize(expected.len() + PAGE as usize - 1, 0);
    assert!(daemon.memory.aside() == expected);
    daemon.memory.discard(0);
    assert_eq!(daemon.memory.resident(), 0);
}

#[test]
fn a_protection_reaches_pages_behind_what_is_not_ours() {
    let mut daemon = Daemon::coarse(CUT, PAGES);
    let place = daemon.shared();
    let writer = place.page(12).write(1);
    assert_eq!(daemon.fault(), (Access::Write, false));
    daemon.install_pages(0, Access::Write, &numbered(PAGES));
    writer.join().unwrap();
    replace(place.page(5));
    // SAFETY: nobody uses this page of a mapping of ours any more.
    unsafe { libc::munmap(place.page(8).0 as *mut _, PAGE as usize) };
    daemon.protect();
    let writer = place.page(12).write(9);
    assert_eq!(daemon.fault(), (Access::Write, true));
    daemon.memory.copy(0).unwrap();
    let bytes = daemon.memory.aside().to_vec();
    let [_, _, ref rest @ ..] = bytes[..] else {
        panic!("no marks")
    };
    for (page, byte) in numbered(PAGES).iter().enumerate() {
        // The writer of page 12 has written its first byte only.
        assert_eq!(rest[page * PAGE as usize + 1], *byte, "page {page}");
    }
    daemon.memory.discard(0);
    daemon.install_pages(0, Access::Write, &numbered(PAGES));
    // It was let go on to find its page absent.
    assert_eq!(daemon.fault(), (Access::Write, false));
    daemon.permit(Access::Write);
    writer.join().unwrap();
    assert_eq!(found(place, 11..14), [12, 9, 14]);
}

/// A thread waits in a part of an attachment that its program has not given up; where
/// the rest was lies something else now, which must not get this segment's bytes.
#[test]
fn what_has_come_to_lie_in_the_place_of_a_part_gets_nothing_of_the_segment() {
    let mut daemon = Daemon::coarse(CUT, PAGES);
    let place = daemon.shared();
    let reader = place.page(2).read();
    daemon.fault();
    let gone = Range {
        start: place.page(8).0,
        len: (CUT - 8) * PAGE,
    };
    // SAFETY: nobody uses this part of a mapping of ours.
    unsafe { libc::munmap(gone.start as *mut _, gone.len as usize) };
    let me = std::process::id();
    let told = daemon.spaces.unmap(Gone::Part(gone), me, |_| {});
    assert!(told.unwrap().is_some());
    let other = super::super::Backing::create("other", PAGE).unwrap();
    // SAFETY: at a place that was just unmapped, or else it fails.
    let lies = unsafe {
        let (prot, flags) = (libc::PROT_READ, libc::MAP_SHARED | libc::MAP_FIXED);
        let fd = other.as_fd().as_raw_fd();
        libc::mmap(gone.start as *mut _, PAGE as usize, prot, flags, fd, 0)
    };
    assert_eq!(lies as u64, gone.start);
    let page = Range { len: PAGE, ..gone };
    daemon.space.uffd.register(page).unwrap();
    daemon.install_pages(0, Access::Read, &numbered(PAGES));
    assert_eq!(reader.join().unwrap(), 3);
    assert_eq!(super::super::backing::resident(other.as_fd()).unwrap(), 0);
}

#[test]
fn a_mapping_that_the_kernel_has_cut_gets_every_page() {
    let mut daemon = Daemon::coarse(CUT, PAGES);
    let place = daemon.shared();
    split(place.page(6));
    let reader = place.page(12).read();
    daemon.fault();
    daemon.install_pages(0, Access::Read, &numbered(PAGES));
    assert_eq!(reader.join().unwrap(), 13);
    assert_eq!(found(place, 0..PAGES), numbered(PAGES));
    let writer = place.page(2).write(77);
    assert_eq!(daemon.fault(), (Access::Write, true));
    daemon.permit(Access::Write);
    writer.join().unwrap();
    assert_eq!(found(place, 1..4), [2, 77, 4]);
}

#[test]
fn a_mapping_whose_border_lies_in_a_granule_shows_its_part() {
    let mut daemon = Daemon::coarse(CUT, PAGES);
    daemon.memory.shared().unwrap();
    let part = daemon.map_part(View::Shared, 10 * PAGE, 8 * PAGE);
    let reader = part.page(1).read();
    assert_eq!(daemon.fault(), (Access::Read, false));
    daemon.install_pages(0, Access::Write, &numbered(PAGES));
    assert_eq!(reader.join().unwrap(), 12);
    assert_eq!(found(part, 0..6), [11, 12, 13, 14, 15, 16]);
    let whole = daemon.map(View::Shared);
    assert_eq!(daemon.faulting_read(whole.page(3), Access::Write), 4);
    assert_eq!(found(whole, 0..PAGES), numbered(PAGES));
    daemon.protect();
    let writer = part.page(0).write(50);
    assert_eq!(daemon.fault(), (Access::Write, true));
    daemon.permit(Access::Write);
    writer.join().unwrap();
    assert_eq!(whole.page(10).read().join().unwrap(), 50);
}

#[test]
fn a_lost_granule_is_sigbus_on_all_its_pages_and_on_no_other() {
    let mut daemon = Daemon::coarse(CUT, PAGES);
    let place = daemon.shared();
    let reader = place.read();
    daemon.fault();
    daemon.install_pages(0, Access::Read, &numbered(PAGES));
    assert_eq!(reader.join().unwrap(), 1);
    replace(place.page(4));
    let waiting = place.page(PAGES).read();
    daemon.fault();
    daemon.memory.poison(0, &daemon.spaces, &daemon.forks);
    let mut lost = vec![BUS; PAGES as usize];
    lost[4] = 0;
    assert_eq!(found(place, 0..PAGES), lost);
    daemon.install_pages(1, Access::Read, &numbered(4));
    assert_eq!(waiting.join().unwrap(), 1);
}

#[test]
fn a_private_view_copies_what_is_touched_and_sees_each_write() {
    const TWICE: u64 = 2 * PAGES;
    let mut daemon = Daemon::coarse(TWICE, TWICE);
    let (shared, private) = (daemon.shared(), daemon.private());
    let writer = shared.page(20).write(1);
    daemon.fault();
    daemon.install_pages(0, Access::Write, &numbered(TWICE));
    writer.join().unwrap();
    let before = daemon.memory.resident();
    assert_eq!(daemon.faulting_read(private.page(20), Access::Write), 1);
    assert_eq!(found(private, 21..24), [22, 23, 24]);
    assert_eq!(daemon.memory.resident() - before, PAGES * PAGE);
    // A page of the granule that was not copied is not older than those that were.
    let writer = shared.page(2).write(99);
    assert_eq!(daemon.fault(), (Access::Write, true), "copies exist");
    daemon.permit(Access::Write);
    writer.join().unwrap();
    assert_eq!(daemon.memory.resident(), before, "the copies are gone");
    assert_eq!(daemon.faulting_read(private.page(2), Access::Write), 99);
    assert_eq!(daemon.faulting_read(private.page(20), Access::Write), 1);
    // The private copy of an untouched page leaves it untouched.
    let mut sparse = Daemon::coarse(TWICE, TWICE);
    let (_, private) = (sparse.shared(), sparse.private());
    let reader = private.page(1).read();
    sparse.fault();
    sparse.install_zeros(Access::Read);
    assert_eq!(reader.join().unwrap(), 0);
    assert_eq!(sparse.memory.resident(), PAGES * PAGE);
}
