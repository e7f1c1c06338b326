//! `dipc status`: nodes, processes and counters of the cluster.

use std::collections::BTreeMap;

use dipc_wire::Limits;
use dipc_wire::admin::NodeStatus;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::failure::Result;
use crate::output::print;
use crate::table::{Table, bytes};
use crate::target::Target;

/// Shows the cluster's nodes, every process that belongs to it, and what the
/// nodes have done so far.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A process of the cluster, whatever it does there.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    pid: u32,
    /// The node's name; empty for the referee, which belongs to none.
    node: String,
    role: &'static str,
    command: String,
    login: String,
    attachments: u32,
    waiting: u32,
}

pub(crate) fn main(args: Args) -> Result<()> {
    let (mut client, cluster) = args.target.connect()?;
    let mut nodes = client.status()?;
    nodes.sort_by_key(|node| node.node);
    let limits = client.limits()?;
    let rows = processes(&nodes, cluster.as_ref());
    print(&if args.json {
        format!("{:#}\n", to_json(&nodes, &rows, limits))
    } else {
        for_people(&nodes, &rows, limits)
    })
}

/// The referee (known only of a local cluster), daemons, keepers and programs;
/// the `dipc` that asks is not one of them.
fn processes(nodes: &[NodeStatus], cluster: Option<&Cluster>) -> Vec<Row> {
    let daemon = |pid, node: &str, role, command: &str| Row {
        pid,
        node: node.to_string(),
        role,
        command: command.to_string(),
        login: String::new(),
        attachments: 0,
        waiting: 0,
    };
    let referee = cluster.and_then(|cluster| cluster.record.referee.as_ref());
    let mut rows: Vec<_> = referee
        .iter()
        .map(|member| daemon(member.process.pid, "", "referee", "dipc-referee"))
        .collect();
    for node in nodes {
        rows.push(daemon(node.pid, &node.name, "dipcd", "dipcd"));
        if node.keeper != 0 {
            rows.push(daemon(node.keeper, &node.name, "keeper", "dipc-keeper"));
        }
        let programs = node
            .processes
            .iter()
            .filter(|process| process.pid != std::process::id());
        rows.extend(programs.map(|process| Row {
            login: process.login.clone(),
            attachments: process.attachments,
            waiting: process.waiting,
            ..daemon(process.pid, &node.name, "program", &process.command)
        }));
    }
    rows
}

fn for_people(nodes: &[NodeStatus], rows: &[Row], limits: Limits) -> String {
    let referee = match nodes.first().and_then(|node| node.referee.as_ref()) {
        Some((address, true)) => format!("Referee at {address}"),
        Some((address, false)) => {
            format!("Referee at {address} does not answer: no new keys until it does")
        }
        None => "No referee: a cluster of one".to_string(),
    };
    let mut nodes_table = Table::new([
        ">NODE",
        "NAME",
        ">INCARNATION",
        "PEERS",
        "VERSION",
        "ADDRESS",
        "SOCKET",
    ]);
    let mut work = Table::new([
        "NAME",
        ">CALLS",
        ">REMOTE",
        ">RFAULTS",
        ">WFAULTS",
        ">PAGESIN",
        ">PAGESOUT",
        ">MSGSOUT",
        ">MSGSIN",
        ">BYTESOUT",
    ]);
    for node in nodes {
        let peers: Vec<_> = node.peers.iter().map(ToString::to_string).collect();
        nodes_table.row([
            node.node.to_string(),
            node.name.clone(),
            node.incarnation.to_string(),
            peers.join(","),
            node.version.clone(),
            node.address.clone(),
            node.socket.clone(),
        ]);
        let counters = &node.counters;
        work.row([
            node.name.clone(),
            counters.calls.to_string(),
            counters.remote_calls.to_string(),
            counters.read_faults.to_string(),
            counters.write_faults.to_string(),
            counters.granules_in.to_string(),
            counters.granules_out.to_string(),
            counters.messages_out.to_string(),
            counters.messages_in.to_string(),
            bytes(counters.bytes_out),
        ]);
    }
    let mut processes = Table::new([
        ">PID",
        "NODE",
        "ROLE",
        "COMMAND",
        "LOGIN",
        ">ATTACHED",
        ">WAITING",
    ]);
    for row in rows {
        let number = |count: u32| {
            if row.role == "program" {
                count.to_string()
            } else {
                String::new()
            }
        };
        processes.row([
            row.pid.to_string(),
            row.node.clone(),
            row.role.to_string(),
            row.command.clone(),
            row.login.clone(),
            number(row.attachments),
            number(row.waiting),
        ]);
    }
    [
        referee + "\n" + &changed(limits) + &refused(nodes),
        nodes_table.render(),
        work.render(),
        processes.render(),
    ]
    .join("\n")
}

/// A line of the connections that nodes have refused, if any: node, reason, count.
fn refused(nodes: &[NodeStatus]) -> String {
    let of_node = |node: &NodeStatus| {
        let counts = node.refused.iter();
        let counts: Vec<_> = counts
            .map(|(why, count)| format!("{why}={count}"))
            .collect();
        (!counts.is_empty()).then(|| format!("{} {}", node.name, counts.join(" ")))
    };
    let all: Vec<_> = nodes.iter().filter_map(of_node).collect();
    if all.is_empty() {
        return String::new();
    }
    format!("Connections refused: {}\n", all.join(", "))
}

/// A line of the limits that are not the kernel's defaults, if any.
fn changed(limits: Limits) -> String {
    let pairs = limits.each().into_iter().zip(Limits::LINUX.each());
    let changed: Vec<_> = pairs
        .filter(|(ours, default)| ours != default)
        .map(|((name, value), _)| format!("{name}={value}"))
        .collect();
    if changed.is_empty() {
        return String::new();
    }
    format!("Limits other than the kernel's: {}\n", changed.join(" "))
}

fn to_json(nodes: &[NodeStatus], rows: &[Row], limits: Limits) -> Value {
    let node = |node: &NodeStatus| {
        let counters = &node.counters;
        json!({
            "node": node.node.get(), "name": node.name, "incarnation": node.incarnation.0,
            "address": node.address, "socket": node.socket, "version": node.version,
            "pid": node.pid, "keeper": node.keeper,
            "referee": node.referee.as_ref().map(|(address, answers)| {
                json!({"address": address, "answers": answers})
            }),
            "peers": node.peers.iter().map(|peer| peer.get()).collect::<Vec<_>>(),
            "counters": {
                "calls": counters.calls, "remote_calls": counters.remote_calls,
                "read_faults": counters.read_faults, "write_faults": counters.write_faults,
                "granules_in": counters.granules_in, "granules_out": counters.granules_out,
                "messages_out": counters.messages_out, "messages_in": counters.messages_in,
                "bytes_out": counters.bytes_out,
            },
            "refused": node.refused.iter().cloned().collect::<BTreeMap<_, _>>(),
        })
    };
    let process = |row: &Row| {
        json!({
            "pid": row.pid, "node": row.node, "role": row.role, "command": row.command,
            "login": row.login, "attachments": row.attachments, "waiting": row.waiting,
        })
    };
    json!({
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
        "limits": limits.each().into_iter().collect::<BTreeMap<_, _>>(),
        "processes": rows.iter().map(process).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use dipc_wire::admin::{Counters, Process};
    use dipc_wire::{Incarnation, NodeId};

    use super::*;

    fn node() -> NodeStatus {
        let program = |pid, command: &str| Process {
            pid,
            login: "ann".into(),
            command: command.into(),
            attachments: 1,
            waiting: 2,
        };
        NodeStatus {
            node: NodeId::SOLO,
            incarnation: Incarnation(4),
            name: "node1".into(),
            address: "127.0.0.1:9".into(),
            socket: "/s".into(),
            version: "0.1.0".into(),
            pid: 10,
            keeper: 11,
            referee: Some(("127.0.0.1:8".into(), false)),
            peers: vec![],
            processes: vec![program(12, "app"), program(std::process::id(), "dipc")],
            counters: Counters {
                calls: 5,
                ..Counters::default()
            },
            refused: vec![],
        }
    }

    #[test]
    fn every_process_is_named_with_its_pid_but_not_the_one_that_asks() {
        let rows = processes(&[node()], None);
        let named: Vec<_> = rows.iter().map(|row| (row.pid, row.role)).collect();
        assert_eq!(named, [(10, "dipcd"), (11, "keeper"), (12, "program")]);
        let json = to_json(&[node()], &rows, Limits::LINUX);
        assert_eq!(json["processes"][2]["pid"], 12);
        assert_eq!(json["nodes"][0]["counters"]["calls"], 5);
        assert_eq!(json["limits"]["shmmni"], 4096);
    }

    #[test]
    fn refused_connections_are_shown_by_node_and_reason() {
        assert_eq!(refused(&[node()]), "");
        let counts = vec![("key".into(), 2), ("plain".into(), 1)];
        let refusing = NodeStatus {
            refused: counts,
            ..node()
        };
        let line = refused(&[node(), refusing.clone()]);
        assert_eq!(line, "Connections refused: node1 key=2 plain=1\n");
        let json = to_json(&[refusing], &[], Limits::LINUX);
        assert_eq!(json["nodes"][0]["refused"]["key"], 2);
    }

    #[test]
    fn limits_are_shown_when_they_are_not_the_kernels() {
        let limits = Limits {
            shmmni: 5,
            msgmni: 6,
            ..Limits::LINUX
        };
        assert_eq!(
            changed(limits),
            "Limits other than the kernel's: shmmni=5 msgmni=6\n"
        );
        assert_eq!(changed(Limits::LINUX), "");
    }

    #[test]
    fn a_referee_that_does_not_answer_is_said_first() {
        let text = for_people(&[node()], &[], Limits::LINUX);
        assert!(
            text.starts_with("Referee at 127.0.0.1:8 does not answer"),
            "{text}"
        );
    }
}
