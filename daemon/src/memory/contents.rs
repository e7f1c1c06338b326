//! A granule's bytes as they travel (`dipc_wire::peer::Message::Coherence`).
//!
//! ```text
//!   one page    its bytes
//!   more        a bit for each page, the lowest first │ the pages whose bit is set
//! ```
//!
//! What does not travel is zeros: so a granule that is mostly untouched costs
//! neither time nor memory, here or there.

use super::PAGE;

const PAGE_LEN: usize = PAGE as usize;
const ZERO_PAGE: [u8; PAGE_LEN] = [0; PAGE_LEN];

fn pages(granule: u64) -> usize {
    (granule / PAGE) as usize
}

fn marks(granule: u64) -> usize {
    match pages(granule) {
        1 => 0,
        pages => pages.div_ceil(8),
    }
}

/// The most bytes that a granule of so many can take.
pub(super) fn longest(granule: u64) -> usize {
    marks(granule) + granule as usize
}

/// Whether these bytes are those of a granule of so many.
pub(super) fn are_sound(granule: u64, bytes: &[u8]) -> bool {
    let Some((marks, follow)) = bytes.split_at_checked(marks(granule)) else {
        return false;
    };
    if marks.is_empty() {
        return follow.len() == granule as usize;
    }
    let unused = marks.len() * 8 - pages(granule);
    let last = marks.last().copied().unwrap_or(0);
    let set: usize = marks.iter().map(|mark| mark.count_ones() as usize).sum();
    last.leading_zeros() as usize >= unused && follow.len() == set * PAGE_LEN
}

/// The parts that are there, from the granule's start: where, and what. The bytes
/// [are sound](are_sound).
pub(super) fn parts(granule: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let (marks, mut follow) = bytes.split_at(marks(granule));
    let mut at = 0;
    std::iter::from_fn(move || {
        if marks.is_empty() {
            let whole = std::mem::take(&mut follow);
            return (!whole.is_empty()).then_some((0, whole));
        }
        let is_set = |page: &usize| marks[page / 8] >> (page % 8) & 1 == 1;
        let start = (at..pages(granule)).find(is_set)?;
        let end = (start..pages(granule)).find(|page| !is_set(page));
        at = end.unwrap_or(pages(granule));
        let (part, rest) = follow.split_at((at - start) * PAGE_LEN);
        follow = rest;
        Some((start as u64 * PAGE, part))
    })
}

/// Begins to write a granule of more than one page: nothing of it is there yet.
pub(super) fn begin(granule: u64, into: &mut Vec<u8>) {
    into.clear();
    into.resize(marks(granule), 0);
}

/// These bytes are those of this page. Zeros are left out. Pages come in order.
pub(super) fn add(page: usize, bytes: &[u8], into: &mut Vec<u8>) {
    if bytes != ZERO_PAGE {
        into[page / 8] |= 1 << (page % 8);
        into.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pages: &[u8]) -> (u64, Vec<u8>) {
        let granule = pages.len() as u64 * PAGE;
        let mut bytes = Vec::new();
        begin(granule, &mut bytes);
        for (at, &byte) in pages.iter().enumerate() {
            add(at, &[byte; PAGE_LEN], &mut bytes);
        }
        (granule, bytes)
    }

    fn read(granule: u64, bytes: &[u8]) -> Vec<u8> {
        let mut all = vec![0; pages(granule)];
        for (offset, part) in parts(granule, bytes) {
            for (at, page) in part.chunks(PAGE_LEN).enumerate() {
                assert!(page.iter().all(|byte| *byte == page[0]));
                all[pages(offset) + at] = page[0];
            }
        }
        all
    }

    #[test]
    fn pages_come_out_as_they_went_in_and_zeros_do_not_travel() {
        for pages in [
            &[1, 2][..],
            &[0, 0, 0],
            &[0, 1, 0, 2, 3, 0, 0, 0, 9],
            &[5; 16],
            &[0, 0, 0, 0, 0, 0, 0, 4],
        ] {
            let (granule, bytes) = written(pages);
            assert!(are_sound(granule, &bytes), "{pages:?}");
            assert_eq!(read(granule, &bytes), pages);
            let sent = pages.iter().filter(|page| **page != 0).count();
            assert_eq!(bytes.len(), pages.len().div_ceil(8) + sent * PAGE_LEN);
            assert!(bytes.len() <= longest(granule));
        }
    }

    #[test]
    fn pages_side_by_side_come_in_one_part() {
        let (granule, bytes) = written(&[0, 7, 8, 0, 9]);
        let parts: Vec<_> = parts(granule, &bytes)
            .map(|(at, part)| (pages(at), pages(part.len() as u64)))
            .collect();
        assert_eq!(parts, [(1, 2), (4, 1)]);
    }

    #[test]
    fn a_granule_of_one_page_is_its_bytes() {
        let page = [7; PAGE_LEN];
        assert!(are_sound(PAGE, &page));
        assert!(!are_sound(PAGE, &page[1..]) && !are_sound(PAGE, &[]));
        assert_eq!(parts(PAGE, &page).collect::<Vec<_>>(), [(0, &page[..])]);
        assert_eq!(longest(PAGE), PAGE_LEN);
    }

    #[test]
    fn bytes_that_are_no_granule_are_refused() {
        let (granule, bytes) = written(&[1, 0, 3]);
        assert!(are_sound(granule, &bytes));
        assert!(!are_sound(granule, &bytes[..bytes.len() - 1]), "cut");
        assert!(!are_sound(granule, &[&bytes[..], &[0]].concat()), "longer");
        assert!(!are_sound(granule, &[]), "nothing");
        assert!(!are_sound(granule, &[0b111]), "pages that do not follow");
        let mut beyond = bytes.clone();
        beyond[0] = 0b1001;
        assert!(!are_sound(granule, &beyond), "a page behind the end");
        assert!(are_sound(granule, &[0]), "all zeros");
    }
}
