//! `dipc keygen`: makes a cluster's key.

use std::path::PathBuf;

use dipc_door::Key;

use crate::failure::{Failure, Result};
use crate::output::print;

/// Makes the key of a cluster: a new file that only its owner may read. Every
/// host of the cluster needs a copy.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Where to
    #[arg(value_name = "FILE", default_value = "dipc.key")]
    file: PathBuf,
}

pub(crate) fn main(args: Args) -> Result<()> {
    let key = Key::generate(&args.file).map_err(|why| Failure::new("no key is made", why))?;
    let file = args.file.display();
    print(&format!(
        "{file} is the key {} of a new cluster. Whoever can read it is in.

  Copy it to every host, over a connection that you trust, mode 600.
  dipc-referee --key {file} --listen ADDRESS:PORT
  dipcd --key {file} --listen ADDRESS:PORT --referee ADDRESS:PORT
",
        key.fingerprint()
    ))
}
