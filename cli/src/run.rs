//! `dipc run`: runs a program against this machine's own daemon.

use std::convert::Infallible;
use std::ffi::OsString;

use crate::client::Client;
use crate::failure::Result;
use crate::program::{Environment, OUR_FAILURE};
use crate::target::local_socket;

/// Runs a program against this machine's own dipcd: the one that DIPC_SOCKET
/// names, else the one at its usual place.
///
/// Working directory, input, output, signals and exit status pass through
/// unchanged: dipc becomes the program. It ends with 127 if there is no such
/// program, 126 if it cannot be run, 125 if dipc itself fails.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn main(args: Args) -> Result<Infallible> {
    let socket = local_socket();
    let environment = Client::connect(&socket).and_then(|_| Environment::new(&socket, None));
    Err(environment
        .map_err(|failure| failure.code(OUR_FAILURE))?
        .exec(args.command))
}
