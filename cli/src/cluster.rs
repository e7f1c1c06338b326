//! A cluster on this machine: the folder it lives in, and the record of its
//! processes there.
//!
//! ```text
//! DIR/cluster.json    who belongs to it
//! DIR/cluster.key     its key, with --tls
//! DIR/referee.log     what each daemon says
//! DIR/node1.log
//! DIR/node1.sock      where programs of node 1 connect
//! …
//! ```
//!
//! Only the folder's owner (or root) is believed: the record names processes
//! that `dipc down` kills, and sockets that programs trust.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::failure::{Doing, Failure, Result};
use crate::network::{self, Place};
use crate::process::Identity;

/// The longest path of a Unix socket: `sun_path` with its final zero.
const SOCKET_PATH: usize = 107;
const RECORD: &str = "cluster.json";
/// The cluster's key, if its connections are encrypted.
pub(crate) const KEY: &str = "cluster.key";
const FORMAT: u32 = 2;

/// Who belongs to a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The format of this record.
    format: u32,
    /// The kernel's boot id: after a reboot the processes are strangers.
    boot: String,
    /// The `dipc` that starts it, or started it.
    pub(crate) launcher: Option<Identity>,
    /// The referee, once it serves.
    pub(crate) referee: Option<Member>,
    /// The nodes that serve; the first is node 1.
    pub(crate) nodes: Vec<Member>,
    /// Who holds the nodes' network namespaces, if they have their own. What it
    /// says when it is ready, the [`network`] module understands.
    pub(crate) network: Option<Member>,
}

/// A daemon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    /// What its files in the folder are called.
    pub(crate) name: String,
    /// Its process.
    pub(crate) process: Identity,
    /// What its `ready` line says: a node's socket, the referee's address.
    pub(crate) at: String,
}

/// A folder with a record.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// Its record.
    pub(crate) record: Record,
}

/// Where a cluster lies if nobody says otherwise.
pub(crate) fn default_dir() -> PathBuf {
    choose_dir(
        env::var_os("DIPC_DIR"),
        env::var_os("XDG_RUNTIME_DIR"),
        geteuid().as_raw(),
    )
}

fn choose_dir(
    named: Option<std::ffi::OsString>,
    runtime: Option<std::ffi::OsString>,
    uid: u32,
) -> PathBuf {
    match (named, runtime) {
        (Some(dir), _) if !dir.is_empty() => dir.into(),
        _ if uid == 0 => "/run/dipc-cluster".into(),
        (_, Some(dir)) if !dir.is_empty() => Path::new(&dir).join("dipc-cluster"),
        _ => format!("/tmp/dipc-{uid}").into(),
    }
}

impl Cluster {
    /// Takes `dir` for a new cluster, and nobody else can from now on. What is
    /// left of one that has ended is cleared away.
    pub(crate) fn claim(dir: &Path, nodes: u8) -> Result<Self> {
        let dir =
            &std::path::absolute(dir).doing(|| format!("cannot resolve {}", dir.display()))?;
        let longest = dir.join(format!("node{nodes}.sock"));
        if longest.as_os_str().as_bytes().len() > SOCKET_PATH {
            return Err(Failure::new(
                format!("cannot use {}", dir.display()),
                format!(
                    "a socket's path has at most {SOCKET_PATH} bytes, and {} has more",
                    longest.display()
                ),
            )
            .next("choose a shorter --dir"));
        }
        match DirBuilder::new().mode(0o755).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => clear_remains(dir)?,
            result => result.doing(|| format!("cannot make {}", dir.display()))?,
        }
        let record = Record {
            format: FORMAT,
            boot: boot_id()?,
            launcher: Identity::of(std::process::id()),
            referee: None,
            nodes: Vec::new(),
            network: None,
        };
        let claimed = File::create_new(dir.join(RECORD))
            .and_then(|mut file| file.write_all(encode(&record).as_bytes()));
        claimed.doing(|| format!("cannot claim {}", dir.display()))?;
        Ok(Cluster {
            dir: dir.clone(),
            record,
        })
    }

    /// The cluster in `dir`; `None` if there is no record.
    pub(crate) fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(RECORD);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.doing(|| format!("cannot read {}", path.display()))?,
        };
        let owner = fs::symlink_metadata(dir)
            .doing(|| format!("cannot look at {}", dir.display()))?
            .uid();
        let ours = geteuid().as_raw();
        if owner != 0 && owner != ours {
            return Err(Failure::new(
                format!("cannot use the cluster in {}", dir.display()),
                format!("the folder belongs to user {owner}, and you are user {ours}"),
            )
            .next("name another folder with --dir or DIPC_DIR"));
        }
        let record = decode(&text).map_err(|why| {
            Failure::new(format!("cannot read {}", path.display()), why)
                .next("use the dipc that started the cluster, or remove the folder once its processes have ended")
        })?;
        Ok(Some(Cluster {
            dir: dir.to_path_buf(),
            record,
        }))
    }

    /// As [`open`](Self::open), for those who need one.
    pub(crate) fn expect(dir: &Path) -> Result<Self> {
        Self::open(dir)?.ok_or_else(|| {
            Failure::new(
                format!("no cluster in {}", dir.display()),
                "there is no record of one",
            )
            .next("start one with `dipc up --nodes 3`, or name its folder with --dir")
        })
    }

    /// Writes the record anew, in one step for readers.
    pub(crate) fn save(&self) -> Result<()> {
        let (new, path) = (
            self.dir.join(format!("{RECORD}.new")),
            self.dir.join(RECORD),
        );
        fs::write(&new, encode(&self.record))
            .and_then(|()| fs::rename(&new, &path))
            .doing(|| format!("cannot write {}", path.display()))
    }

    /// Node `number`, from 1.
    pub(crate) fn node(&self, number: u8) -> Result<&Member> {
        let nodes = self.record.nodes.len();
        usize::from(number)
            .checked_sub(1)
            .and_then(|i| self.record.nodes.get(i))
            .ok_or_else(|| {
                Failure::new(
                    format!("no node {number}"),
                    format!(
                        "the cluster in {} has nodes 1 to {nodes}",
                        self.dir.display()
                    ),
                )
            })
    }

    /// Whether any of its processes is there, or may still come.
    pub(crate) fn is_up(&self) -> bool {
        let of_this_boot = boot_id().is_ok_and(|boot| boot == self.record.boot);
        of_this_boot && self.identities().any(Identity::is_alive)
    }

    fn identities(&self) -> impl Iterator<Item = Identity> + '_ {
        let members = (self.record.referee.iter())
            .chain(&self.record.nodes)
            .chain(&self.record.network);
        self.record
            .launcher
            .into_iter()
            .chain(members.map(|member| member.process))
    }

    /// Where a member is in the cluster's own network; `None` if it has none.
    pub(crate) fn place(&self, name: &str) -> Result<Option<Place>> {
        let Some(holder) = &self.record.network else {
            return Ok(None);
        };
        let place = network::places(&holder.at).find(|place| place.name == name);
        place.map(Some).ok_or_else(|| {
            Failure::new(
                format!("{name} has no place in the cluster's network"),
                format!(
                    "process {}, which holds it, has named none",
                    holder.process.pid
                ),
            )
        })
    }

    /// The network namespace of a member; `None` if it has none of its own.
    pub(crate) fn namespace(&self, name: &str) -> Result<Option<File>> {
        let (Some(place), Some(holder)) = (self.place(name)?, &self.record.network) else {
            return Ok(None);
        };
        place.open(holder.process).map(Some)
    }

    /// Its members if they are of this boot, the nodes first.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        let of_this_boot = boot_id().is_ok_and(|boot| boot == self.record.boot);
        self.record
            .nodes
            .iter()
            .chain(&self.record.referee)
            .filter(move |_| of_this_boot)
    }

    /// Where a member's standard error goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// Where a node's programs connect.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.sock"))
    }

    /// Removes the cluster's files and then the folder. Files that are not the
    /// cluster's stay, and so does the folder then: that is an error.
    pub(crate) fn remove_files(&self) -> Result<()> {
        let what = || format!("cannot clear {}", self.dir.display());
        for entry in fs::read_dir(&self.dir).doing(what)? {
            let entry = entry.doing(what)?;
            if is_ours(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).doing(what)?;
            }
        }
        fs::remove_dir(&self.dir).map_err(|error| {
            Failure::new(format!("{} stays", self.dir.display()), error)
                .next("files that are not the cluster's lie in it: see whether you need them")
        })
    }
}

/// Whether a file of this name in a cluster's folder was made by its processes.
fn is_ours(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let is_node = stem
        .strip_prefix("node")
        .is_some_and(|n| n.parse::<u8>().is_ok());
    (is_node || [network::REFEREE, network::NAME].contains(&stem)) && name.len() > stem.len()
        || name.starts_with(RECORD)
        || name == KEY
}

/// Makes an existing folder usable, or says why it is not.
fn clear_remains(dir: &Path) -> Result<()> {
    let what = || format!("cannot start a cluster in {}", dir.display());
    match Cluster::open(dir)? {
        Some(cluster) if cluster.is_up() => Err(Failure::new(
            what(),
            "one is up there already, or is being started",
        )
        .next("end it with `dipc down`, or choose another folder with --dir")),
        Some(cluster) => cluster
            .remove_files()
            .and_then(|()| fs::create_dir(dir).doing(what)),
        None if fs::read_dir(dir).doing(what)?.next().is_none() => Ok(()),
        None => Err(Failure::new(what(), "the folder has other things in it")
            .next("choose an empty or a new folder with --dir")),
    }
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path)
        .doing(|| format!("cannot read {path}"))?
        .trim()
        .to_string())
}

fn encode(record: &Record) -> String {
    serde_json::to_string_pretty(record).unwrap_or_default() + "\n"
}

fn decode(text: &str) -> std::result::Result<Record, String> {
    let record: Record = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if record.format == FORMAT {
        Ok(record)
    } else {
        Err(format!(
            "its format is {}, and this dipc knows {FORMAT}",
            record.format
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is gone at the end of the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Scratch(env::temp_dir().join(format!("dipc-cluster-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn dead() -> Identity {
        Identity {
            pid: std::process::id(),
            started: 0,
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_saved() {
        let scratch = Scratch::new("record");
        let mut cluster = Cluster::claim(&scratch.0, 3).unwrap();
        cluster.record.nodes.push(Member {
            name: "node1".into(),
            process: dead(),
            at: "/x".into(),
        });
        cluster.save().unwrap();
        let again = Cluster::expect(&scratch.0).unwrap();
        assert_eq!(again.record, cluster.record);
        assert_eq!(again.node(1).unwrap().at, "/x");
        assert!(again.node(0).is_err() && again.node(2).is_err());
    }

    #[test]
    fn a_folder_with_a_living_cluster_is_refused_and_one_with_remains_is_taken() {
        let scratch = Scratch::new("claim");
        let mut cluster = Cluster::claim(&scratch.0, 3).unwrap();
        let second = Cluster::claim(&scratch.0, 3).unwrap_err().to_string();
        assert!(second.contains("up there already"), "{second}");
        cluster.record.launcher = Some(dead());
        cluster.save().unwrap();
        fs::write(cluster.log("node1"), "old").unwrap();
        let third = Cluster::claim(&scratch.0, 3).unwrap();
        assert!(!third.log("node1").exists());
        third.remove_files().unwrap();
        assert!(!scratch.0.exists());
    }

    #[test]
    fn a_record_of_an_earlier_boot_names_nobody() {
        let scratch = Scratch::new("boot");
        let mut cluster = Cluster::claim(&scratch.0, 1).unwrap();
        cluster.record.nodes.push(Member {
            name: "node1".into(),
            process: Identity::of(std::process::id()).unwrap(),
            at: String::new(),
        });
        assert!(cluster.is_up());
        assert_eq!(cluster.members().count(), 1);
        cluster.record.boot = "another".into();
        assert!(!cluster.is_up());
        assert_eq!(cluster.members().count(), 0);
    }

    #[test]
    fn files_that_are_not_the_clusters_survive_it() {
        let scratch = Scratch::new("files");
        let cluster = Cluster::claim(&scratch.0, 1).unwrap();
        fs::write(scratch.0.join("notes.txt"), "mine").unwrap();
        fs::write(cluster.log("node1"), "").unwrap();
        assert!(
            cluster
                .remove_files()
                .unwrap_err()
                .to_string()
                .contains("not the cluster's")
        );
        assert!(scratch.0.join("notes.txt").exists() && !cluster.log("node1").exists());
        assert!(
            Cluster::claim(&scratch.0, 1)
                .unwrap_err()
                .to_string()
                .contains("other things")
        );
    }

    #[test]
    fn only_names_that_daemons_give_are_the_clusters() {
        for name in [
            "node1.sock",
            "node12.log",
            "referee.log",
            "network.log",
            "cluster.json",
            "node3.sock.lock",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "node",
            "nodes.txt",
            "node1",
            "referee",
            "mandelbrot.png",
            "node300.log",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn a_folder_too_deep_for_sockets_is_refused_before_anything_starts() {
        let deep = Path::new("/tmp").join("d".repeat(100));
        let failure = Cluster::claim(&deep, 3).unwrap_err().to_string();
        assert!(
            failure.contains("107 bytes") && failure.contains("shorter --dir"),
            "{failure}"
        );
        assert!(!deep.exists());
    }

    #[test]
    fn the_folder_is_the_named_one_else_the_users_own() {
        let dir = |named: Option<&str>, runtime: Option<&str>, uid| {
            choose_dir(named.map(Into::into), runtime.map(Into::into), uid)
        };
        assert_eq!(dir(Some("/x"), Some("/r"), 0), Path::new("/x"));
        assert_eq!(dir(None, Some("/r"), 0), Path::new("/run/dipc-cluster"));
        assert_eq!(dir(Some(""), Some("/r"), 7), Path::new("/r/dipc-cluster"));
        assert_eq!(dir(None, None, 7), Path::new("/tmp/dipc-7"));
    }
}
