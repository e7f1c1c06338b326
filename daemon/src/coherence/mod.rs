//! The coherence protocol.
