//! `seeds FOLDER`: writes the seeds of each target, and what was found before, as
//! files into `FOLDER/TARGET`, where libFuzzer begins.

use std::path::PathBuf;
use std::{env, fs, io};

use dipc_fuzz::{TARGETS, regressions};

fn main() -> io::Result<()> {
    let usage = || io::Error::other("usage: seeds FOLDER");
    let folder = PathBuf::from(env::args_os().nth(1).ok_or_else(usage)?);
    for target in TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        let all = (target.seeds)().into_iter().chain(regressions(target)?);
        for (number, bytes) in all.enumerate() {
            fs::write(folder.join(number.to_string()), bytes)?;
        }
    }
    Ok(())
}
