//! `dipc ls`: the objects of the cluster, from any of its nodes.

use dipc_wire::admin::{Detail, Object};
use dipc_wire::call::flags;
use dipc_wire::{Kind, Pid};
use serde_json::{Value, json};

use crate::failure::Result;
use crate::output::print;
use crate::table::{Table, bytes, nanoseconds, permissions};
use crate::target::Target;

/// Lists the cluster's objects. The columns are lsipc's, and HOME: the node that
/// an object lives on. A process of another node is written NODE:PID.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Only objects of this kind
    #[arg(long, value_enum)]
    kind: Option<KindName>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A kind as an option's value.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum KindName {
    Sem,
    Msg,
    Shm,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Kind {
        match name {
            KindName::Sem => Kind::Sem,
            KindName::Msg => Kind::Msg,
            KindName::Shm => Kind::Shm,
        }
    }
}

pub(crate) fn main(args: Args) -> Result<()> {
    let (mut client, _) = args.target.connect()?;
    let kinds = args
        .kind
        .map_or(Kind::ALL.to_vec(), |kind| vec![kind.into()]);
    let mut objects = client.list()?;
    objects.retain(|object| kinds.contains(&object.kind));
    objects.sort_by_key(|object| (object.kind, object.id));
    if args.json {
        let objects = json!({ "objects": objects.iter().map(to_json).collect::<Vec<_>>() });
        return print(&format!("{objects:#}\n"));
    }
    let sections = kinds.iter().map(|&kind| {
        let title = match kind {
            Kind::Sem => "Semaphore sets",
            Kind::Msg => "Message queues",
            Kind::Shm => "Shared memory segments",
        };
        let table = table(kind, objects.iter().filter(|object| object.kind == kind));
        if kinds.len() > 1 {
            format!("{title}\n{}", table.render())
        } else {
            table.render()
        }
    });
    print(&sections.collect::<Vec<_>>().join("\n"))
}

/// The table of one kind; `objects` are all of that kind.
fn table<'a>(kind: Kind, objects: impl Iterator<Item = &'a Object>) -> Table {
    let mut table = match kind {
        Kind::Sem => Table::new(["KEY", ">ID", "PERMS", "OWNER", ">NSEMS", "HOME"]),
        Kind::Msg => Table::new([
            "KEY",
            ">ID",
            "PERMS",
            "OWNER",
            ">USEDBYTES",
            ">MSGS",
            ">LSPID",
            ">LRPID",
            "HOME",
        ]),
        Kind::Shm => Table::new([
            "KEY", ">ID", "PERMS", "OWNER", ">SIZE", ">NATTCH", "STATUS", ">CPID", ">LPID", "HOME",
            ">GRANULE", ">QUANTUM",
        ]),
    };
    for object in objects {
        let key = format!("{:#010x}", object.key);
        let id = object.id.to_string();
        let (perms, owner) = (permissions(object.mode), object.owner.clone());
        let home = object.home.clone();
        match object.detail {
            Detail::Sem { nsems, .. } => {
                table.row([key, id, perms, owner, nsems.to_string(), home]);
            }
            Detail::Msg {
                bytes: used,
                messages,
                lspid,
                lrpid,
            } => {
                let messages = messages.to_string();
                let (lspid, lrpid) = (process(lspid), process(lrpid));
                table.row([
                    key,
                    id,
                    perms,
                    owner,
                    bytes(used),
                    messages,
                    lspid,
                    lrpid,
                    home,
                ]);
            }
            Detail::Shm {
                size,
                nattch,
                cpid,
                lpid,
                granule,
                quantum,
            } => table.row([
                key,
                id,
                perms,
                owner,
                bytes(size),
                nattch.to_string(),
                status(object.mode).join(","),
                process(cpid),
                process(lpid),
                home,
                bytes(granule),
                nanoseconds(quantum),
            ]),
        }
    }
    table
}

fn status(mode: u16) -> Vec<&'static str> {
    let words = [(flags::DEST, "dest"), (flags::LOCKED, "locked")];
    words
        .into_iter()
        .filter(|(bit, _)| mode & bit != 0)
        .map(|(_, word)| word)
        .collect()
}

fn process(pid: Option<Pid>) -> String {
    pid.map_or("0".into(), |pid| format!("{}:{}", pid.node, pid.pid))
}

fn to_json(object: &Object) -> Value {
    let process = |pid: Option<Pid>| pid.map(|pid| json!({"node": pid.node.get(), "pid": pid.pid}));
    let mut value = json!({
        "kind": object.kind.to_string(),
        "key": format!("{:#010x}", object.key),
        "id": object.id.raw(),
        "owner": object.owner,
        "mode": format!("{:04o}", object.mode & 0o777),
        "home": object.home,
        "home_node": object.id.home().get(),
    });
    let detail = match object.detail {
        Detail::Sem { nsems, otime } => json!({"nsems": nsems, "otime": otime}),
        Detail::Msg {
            bytes,
            messages,
            lspid,
            lrpid,
        } => json!({
            "bytes": bytes, "messages": messages, "lspid": process(lspid), "lrpid": process(lrpid),
        }),
        Detail::Shm {
            size,
            nattch,
            cpid,
            lpid,
            granule,
            quantum,
        } => json!({
            "size": size, "nattch": nattch, "cpid": process(cpid), "lpid": process(lpid),
            "granule": granule, "quantum_ns": quantum, "status": status(object.mode),
        }),
    };
    if let (Value::Object(all), Value::Object(more)) = (&mut value, detail) {
        all.extend(more);
    }
    value
}

#[cfg(test)]
mod tests {
    use dipc_wire::{NodeId, ObjectId};

    use super::*;

    fn segment() -> Object {
        let node = NodeId::new(2).unwrap();
        Object {
            kind: Kind::Shm,
            key: 0x1234,
            id: ObjectId::new(node, 7),
            owner: "ann".into(),
            mode: 0o600 | flags::DEST,
            home: "node2".into(),
            detail: Detail::Shm {
                size: 8192,
                nattch: 3,
                cpid: Some(Pid { node, pid: 99 }),
                lpid: None,
                granule: 4096,
                quantum: 200_000,
            },
        }
    }

    #[test]
    fn a_segments_row_has_lsipcs_columns_with_home_granule_and_quantum() {
        let text = table(Kind::Shm, [segment()].iter()).render();
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let id = segment().id.to_string();
        let expected = [
            "0x00001234",
            &id,
            "rw-------",
            "ann",
            "8K",
            "3",
            "dest",
            "2:99",
            "0",
            "node2",
            "4K",
            "200us",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn json_has_what_the_table_has() {
        let value = to_json(&segment());
        assert_eq!(value["key"], "0x00001234");
        assert_eq!(value["home_node"], 2);
        assert_eq!(value["cpid"], json!({"node": 2, "pid": 99}));
        assert_eq!(value["lpid"], Value::Null);
        assert_eq!(value["status"], json!(["dest"]));
        assert_eq!(value["mode"], "0600");
    }
}
