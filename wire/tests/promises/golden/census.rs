//! What there is in the cluster, one kind at a time.

use dipc_wire::call::{Reply, SemStat};
use dipc_wire::census::{Census, Entry, Totals};

use super::{ID, LIMITS, golden_enum, golden_values};

golden_enum! { TOTALS, totals_keep_their_bytes: Totals {
    "00 ac02" Sem { semaphores: 300 },
    "01 05 8040" Msg { messages: 5, bytes: 8192 },
    "02 ac02 07" Shm { pages: 300, resident: 7 },
}}

golden_values! { CENSUS, a_census_keeps_its_bytes: Census {
    "05 00 ac02 01 02 03 04 05 06 07 08 09 0a" => SETS,
}}

golden_values! { ENTRIES, entries_keep_their_bytes: Vec<Entry> {
    "00" => vec![],
    "01 8a80808808 07 00 00 00 00 00 00 00 00 00 00 00 00 14 03" => vec![Entry {
        id: ID,
        stat: Reply::Sem(SemStat { ctime: 10, nsems: 3, ..SemStat::default() }),
    }],
}}

/// Five sets of 300 semaphores.
pub(super) const SETS: Census = Census {
    objects: 5,
    totals: Totals::Sem { semaphores: 300 },
    limits: LIMITS,
};
