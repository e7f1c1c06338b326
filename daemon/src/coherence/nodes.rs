//! Sets of nodes.

use std::fmt;

use dipc_wire::NodeId;

/// Which nodes: one bit a number, so that a directory entry owns no memory
/// beyond itself for them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeSet([u64; 4]);

impl NodeSet {
    /// The set of one.
    pub fn of(node: NodeId) -> Self {
        let mut set = Self::default();
        set.insert(node);
        set
    }

    fn place(node: NodeId) -> (usize, u64) {
        (usize::from(node.get() / 64), 1 << (node.get() % 64))
    }

    /// Is it in?
    pub fn contains(&self, node: NodeId) -> bool {
        let (word, bit) = Self::place(node);
        self.0[word] & bit != 0
    }

    /// Puts it in.
    pub fn insert(&mut self, node: NodeId) {
        let (word, bit) = Self::place(node);
        self.0[word] |= bit;
    }

    /// Takes it out; true when it was in.
    pub fn remove(&mut self, node: NodeId) -> bool {
        let was_in = self.contains(node);
        let (word, bit) = Self::place(node);
        self.0[word] &= !bit;
        was_in
    }

    /// The others.
    pub fn without(mut self, node: NodeId) -> Self {
        self.remove(node);
        self
    }

    /// Those that are not in `other`.
    pub fn minus(mut self, other: Self) -> Self {
        for (word, out) in self.0.iter_mut().zip(other.0) {
            *word &= !out;
        }
        self
    }

    /// Nobody?
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// How many.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + use<> {
        let mut rest = *self;
        std::iter::from_fn(move || {
            let word = rest.0.iter().position(|&word| word != 0)?;
            let node = NodeId::new(word as u8 * 64 + rest.0[word].trailing_zeros() as u8)?;
            rest.remove(node);
            Some(node)
        })
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_up_to_the_highest_node() {
        let nodes = [1, 63, 64, 128, 255].map(|n| NodeId::new(n).unwrap());
        let mut set = NodeSet::default();
        for node in nodes {
            set.insert(node);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), nodes);
        assert_eq!(set.len(), 5);
        assert!(set.remove(nodes[4]) && !set.remove(nodes[4]));
        assert_eq!(set.minus(NodeSet::of(nodes[0])).without(nodes[1]).len(), 2);
        assert!(!set.is_empty() && set.minus(set).is_empty());
    }
}
