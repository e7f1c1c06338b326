//! What directory and caches say to each other.

use dipc_wire::coherence::{Access, Content, Message};

use super::{LIFE, golden_enum, node};

golden_enum! { ACCESS, an_access_keeps_its_bytes: Access {
    "00" Read,
    "01" Write,
}}

golden_enum! { CONTENT, a_content_keeps_its_bytes: Content {
    "00" Keep,
    "01" Zero,
    "02" Data,
}}

golden_enum! { MESSAGE, a_coherence_message_keeps_its_bytes: Message {
    "00 ac02 01 8001 09" Request { granule: 300, access: Access::Write, ticket: 128, incarnation: LIFE },
    "01 ac02 00 02 8001" Grant { granule: 300, access: Access::Read, content: Content::Data, ticket: 128 },
    "02 ac02 07 09 01 8001" Forward { granule: 300, to: node(7), incarnation: LIFE, access: Access::Write, ticket: 128 },
    "03 ac02" Installed { granule: 300 },
    "04 ac02" Invalidate { granule: 300 },
    "05 ac02" Invalidated { granule: 300 },
    "06 ac02 02" Evict { granule: 300, content: Content::Data },
    "07 ac02 8001" Chase { granule: 300, ticket: 128 },
    "08 ac02 8001" Missing { granule: 300, ticket: 128 },
    "09 ac02" Lost { granule: 300 },
    "0a ac02" Own { granule: 300 },
    "0b ac02" Void { granule: 300 },
    "0c ac02" Cancel { granule: 300 },
    "0d ac02 01" Cancelled { granule: 300, held: true },
}}
