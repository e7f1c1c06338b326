//! Small C programs under the built libdipc.so, against a scripted daemon: the
//! test plays dipcd itself, one request after the other.

mod absence;
mod calls;
mod descriptors;
mod fake;
mod memory;
mod probe;
mod signals;
