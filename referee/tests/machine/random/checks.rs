//! What must hold after every step, and what when all has come to rest.

use std::collections::BTreeMap;

use dipc_wire::call::PRIVATE;
use dipc_wire::referee::ToReferee;
use dipc_wire::{Incarnation, Kind, NodeId};

use super::{KEYS, LIMITS, NODES, Node, World};

impl World {
    /// Among those whom the referee believes alive and has heard to the end, one
    /// at most has a key or may create it.
    ///
    /// Two may come back to a new referee with the same key: the old one had
    /// given it away when it took the first for dead, who has not heard so. The
    /// second to say that it owns the key is fenced then, before it has settled.
    /// In the same way there may be too many objects then, and none is added.
    pub(super) fn check(&self) {
        let alive = |node: &&Node| {
            let life = node.me.map(|me| (me.node, me.incarnation));
            let settled = !node.outbox.contains(&ToReferee::Settled);
            settled && life.is_some_and(|life| self.post.present.contains(&life))
        };
        let shares = self.nodes.iter().filter(alive).map(Node::share);
        let (objects, weight) = shares.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        if self.restarts == 0 {
            assert!(objects <= LIMITS.shmmni, "{objects} objects");
            assert!(weight <= LIMITS.shmall, "{weight} pages");
        }
        for key in KEYS {
            let has = |node: &&Node| {
                node.owned.contains_key(&key) || node.grants.values().any(|(k, _)| *k == key)
            };
            let homes = self.nodes.iter().filter(alive).filter(has).count();
            assert!(homes <= 1, "key {key} has {homes} homes");
        }
    }

    pub(super) fn check_at_rest(&self) {
        for node in self.nodes.iter().filter(|node| node.welcomed()) {
            assert!(
                node.asked.is_empty(),
                "questions without answer: {:?}",
                node.asked
            );
            let me = node.me.unwrap();
            let others = |(n, _): &&(NodeId, Incarnation)| *n != me.node;
            let present: BTreeMap<_, _> =
                self.post.present.iter().filter(others).copied().collect();
            assert_eq!(
                node.known, present,
                "node {} is wrong about who is here",
                me.node
            );
        }
        assert_eq!(
            self.nodes.iter().filter(|n| n.welcomed()).count(),
            self.post.present.len()
        );
        let total = self.naming.total(Kind::Shm);
        assert_eq!(
            (total.objects, total.weight),
            self.shares(),
            "the count is wrong"
        );
    }

    /// What all members have or may make.
    fn shares(&self) -> (u64, u128) {
        let welcomed = self.nodes.iter().filter(|node| node.welcomed());
        welcomed.map(Node::share).fold((0, 0), |all, one| {
            (all.0 + one.0, all.1 + u128::from(one.1))
        })
    }

    /// Who asks for room gets it if and only if there is some.
    pub(super) fn check_room(&mut self) {
        for i in (0..NODES)
            .filter(|i| self.nodes[*i].welcomed())
            .collect::<Vec<_>>()
        {
            let (objects, weight) = self.shares();
            let room = objects < LIMITS.shmmni && weight < u128::from(LIMITS.shmall);
            let refused = self.nodes[i].refused;
            self.ask(i, PRIVATE, Some(1));
            self.drain();
            assert_eq!(self.nodes[i].refused == refused, room);
        }
        self.check_at_rest();
    }

    /// What the last to ask is told is where the objects are.
    pub(super) fn check_names(&mut self) {
        for i in 0..NODES {
            for key in KEYS {
                self.nodes[i].found.clear();
                self.ask(i, key, None);
            }
        }
        self.drain();
        for node in self.nodes.iter().filter(|node| node.welcomed()) {
            let owned = self.nodes.iter().flat_map(|home| home.owned.clone());
            assert_eq!(node.found, owned.collect());
        }
    }
}
