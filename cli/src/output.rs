//! Standard output, whose reader may have seen enough: `dipc ls | head -1`.

use std::io::{self, Write};

use crate::failure::{Doing, Result};

/// Writes `text`. A reader that has gone is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.doing(|| "cannot write the answer".into()),
    }
}
