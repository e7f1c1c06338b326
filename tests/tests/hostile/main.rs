//! Who means harm and is let in: a program, a node, a node towards the referee.
//! Each attempt is made beside honest programs on two nodes, whose calls all
//! succeed meanwhile. `docs/security.md` has the list, with the answers.

mod client;
mod crowd;
mod honest;
mod peer;
mod referee;
