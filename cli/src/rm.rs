//! `dipc rm`: removes distributed objects, as `ipcrm` removes local ones.

use dipc_wire::call::Call;
use dipc_wire::{Errno, Kind, ObjectId};

use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::target::Target;

/// Removes distributed objects. The options are ipcrm's.
#[derive(clap::Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Remove the segment with this key
    #[arg(short = 'M', long, value_name = "KEY", value_parser = key)]
    shmem_key: Vec<i32>,
    /// Remove the segment with this id
    #[arg(short = 'm', long, value_name = "ID", value_parser = id)]
    shmem_id: Vec<ObjectId>,
    /// Remove the queue with this key
    #[arg(short = 'Q', long, value_name = "KEY", value_parser = key)]
    queue_key: Vec<i32>,
    /// Remove the queue with this id
    #[arg(short = 'q', long, value_name = "ID", value_parser = id)]
    queue_id: Vec<ObjectId>,
    /// Remove the semaphore set with this key
    #[arg(short = 'S', long, value_name = "KEY", value_parser = key)]
    semaphore_key: Vec<i32>,
    /// Remove the semaphore set with this id
    #[arg(short = 's', long, value_name = "ID", value_parser = id)]
    semaphore_id: Vec<ObjectId>,
}

/// What to remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Key(i32),
    Id(ObjectId),
}

impl Args {
    fn objects(&self) -> Vec<(Kind, Name)> {
        let groups = [
            (Kind::Shm, &self.shmem_key, &self.shmem_id),
            (Kind::Msg, &self.queue_key, &self.queue_id),
            (Kind::Sem, &self.semaphore_key, &self.semaphore_id),
        ];
        let names = |(kind, keys, ids): (Kind, &Vec<i32>, &Vec<ObjectId>)| {
            let keys = keys.iter().map(|key| Name::Key(*key));
            let all: Vec<_> = keys.chain(ids.iter().map(|id| Name::Id(*id))).collect();
            all.into_iter().map(move |name| (kind, name))
        };
        groups.into_iter().flat_map(names).collect()
    }
}

/// Goes on after a failure; ends with the first one.
pub(crate) fn main(args: Args) -> Result<()> {
    let objects = args.objects();
    let (mut client, _) = args.target.connect()?;
    let mut failures = objects
        .into_iter()
        .filter_map(|(kind, name)| remove(&mut client, kind, name).err());
    let Some(first) = failures.next() else {
        return Ok(());
    };
    for further in failures {
        eprintln!("dipc: {further}");
    }
    Err(first)
}

fn remove(client: &mut Client, kind: Kind, name: Name) -> Result<()> {
    let id = match name {
        Name::Id(id) => Ok(id),
        Name::Key(key) => client.find(Call::Get {
            kind,
            key,
            size: 0,
            flags: 0,
        })?,
    };
    match id {
        Ok(id) => client.perform(Call::Remove { kind, id })?,
        Err(errno) => Err(errno),
    }
    .map_err(|errno| {
        let name = match name {
            Name::Key(key) => format!("key {key:#010x}"),
            Name::Id(id) => format!("id {id}"),
        };
        Failure::new(format!("cannot remove {kind} {name}"), reason(errno))
    })
}

fn reason(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "no object has this key".into(),
        Errno::EINVAL | Errno::EIDRM => "there is no such object".into(),
        Errno::EPERM | Errno::EACCES => "it belongs to somebody else".into(),
        Errno::ETIMEDOUT => "its home does not answer, and may have removed it or not".into(),
        other => std::io::Error::from_raw_os_error(other.raw()).to_string(),
    }
}

/// A key as `dipc ls` and `ipcs` print it, or in decimal.
fn key(text: &str) -> std::result::Result<i32, String> {
    let number = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text
            .parse::<u32>()
            .ok()
            .or_else(|| text.parse::<i32>().ok().map(|n| n as u32)),
    };
    match number {
        Some(0) => Err("key 0 is IPC_PRIVATE, which names no object: use its id".into()),
        Some(number) => Ok(number as i32),
        None => Err("not a key: a number of 32 bits, such as 0x1234".into()),
    }
}

fn id(text: &str) -> std::result::Result<ObjectId, String> {
    let number = text
        .parse()
        .map_err(|_| "not an id: a number, as `dipc ls` shows it")?;
    ObjectId::from_raw(number)
        .ok_or_else(|| "not the id of a distributed object: `ipcrm` removes local ones".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use dipc_wire::NodeId;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn keys_are_read_as_they_are_printed() {
        assert_eq!(key("0x1234"), Ok(0x1234));
        assert_eq!(key("0xffffffff"), Ok(-1));
        assert_eq!(key("4294967295"), Ok(-1));
        assert_eq!(key("-1"), Ok(-1));
        assert!(key("0").unwrap_err().contains("IPC_PRIVATE"));
        for wrong in ["", "x", "0x", "0x100000000", "1.5"] {
            assert!(key(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_of_local_objects_are_not_taken_for_ours() {
        let ours = ObjectId::new(NodeId::SOLO, 3);
        assert_eq!(id(&ours.to_string()), Ok(ours));
        assert!(id("5").unwrap_err().contains("ipcrm"));
    }

    #[test]
    fn the_options_are_ipcrms() {
        let ours = ObjectId::new(NodeId::SOLO, 3);
        let line = [
            "rm",
            "-M",
            "0x10",
            "-S",
            "17",
            "-q",
            &ours.to_string(),
            "-M",
            "2",
        ];
        let objects = Line::try_parse_from(line).unwrap().args.objects();
        let expected = [
            (Kind::Shm, Name::Key(0x10)),
            (Kind::Shm, Name::Key(2)),
            (Kind::Msg, Name::Id(ours)),
            (Kind::Sem, Name::Key(17)),
        ];
        assert_eq!(objects, expected);
    }
}
