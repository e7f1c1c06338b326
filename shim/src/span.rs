//! Ranges of addresses, as `munmap` and its like are given them.

use crate::sys;

/// From `start` to before `end`, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// The whole pages of a call's arguments. `None` when the kernel refuses them
    /// all: an address within a page, no bytes, more than there are.
    pub(crate) fn of_pages(addr: usize, len: usize) -> Option<Self> {
        let page = sys::page_size();
        let len = len.checked_next_multiple_of(page)?;
        let end = addr.checked_add(len)?;
        (len > 0 && addr.is_multiple_of(page)).then_some(Span { start: addr, end })
    }

    /// How many bytes.
    pub(crate) fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether the two have a byte in common.
    pub(crate) fn meets(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What of this lies before, inside and behind `other`, which it meets.
    pub(crate) fn cut(self, other: Span) -> Cut {
        let inside = Span {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        };
        let some = |start, end| (start < end).then_some(Span { start, end });
        Cut {
            before: some(self.start, inside.start),
            inside,
            behind: some(inside.end, self.end),
        }
    }
}

/// A span in up to three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    pub(crate) before: Option<Span>,
    pub(crate) inside: Span,
    pub(crate) behind: Option<Span>,
}

impl Cut {
    /// Nothing is cut off.
    pub(crate) fn is_whole(self) -> bool {
        self.before.is_none() && self.behind.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    #[test]
    fn arguments_that_the_kernel_refuses_are_no_span() {
        let page = sys::page_size();
        assert_eq!(Span::of_pages(page, 1), Some(span(page, 2 * page)));
        assert_eq!(Span::of_pages(page, page + 1), Some(span(page, 3 * page)));
        for (addr, len) in [
            (page, 0),
            (page + 1, page),
            (page, usize::MAX),
            (usize::MAX - page + 1, 2 * page),
        ] {
            assert_eq!(Span::of_pages(addr, len), None, "{addr:#x} {len:#x}");
        }
    }

    #[test]
    fn a_span_is_cut_into_what_lies_before_inside_and_behind() {
        let all = span(10, 20);
        for (other, before, inside, behind) in [
            ((0, 30), None, (10, 20), None),
            ((10, 20), None, (10, 20), None),
            ((5, 13), None, (10, 13), Some((13, 20))),
            ((13, 17), Some((10, 13)), (13, 17), Some((17, 20))),
            ((17, 25), Some((10, 17)), (17, 20), None),
        ] {
            let cut = all.cut(span(other.0, other.1));
            let some = |pair: Option<(usize, usize)>| pair.map(|(a, b)| span(a, b));
            assert_eq!(
                cut,
                Cut {
                    before: some(before),
                    inside: span(inside.0, inside.1),
                    behind: some(behind)
                }
            );
            assert_eq!(cut.is_whole(), other.0 <= 10 && other.1 >= 20);
        }
        assert!(!all.meets(span(20, 21)) && !all.meets(span(0, 10)));
    }
}
