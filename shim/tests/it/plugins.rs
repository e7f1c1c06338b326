//! Plug-ins that are loaded with `RTLD_DEEPBIND`, which binds past preloaded
//! libraries (behaviour 125).

use dipc_wire::call::Reply;

use crate::calls::id;
use crate::fake::Fake;
use crate::probe::{Probe, compile_with, isolated};

/// A daemon whose folder has the plug-in and, where only the plug-in finds it, the
/// library that this one needs.
fn with_plugin(test: &str) -> Fake {
    let fake = Fake::new(test);
    let folder = fake.dir.join("plugins");
    let inner = folder.join("plugins");
    std::fs::create_dir_all(&inner).unwrap();
    let shared = ["-shared", "-fPIC"];
    compile_with("needed", &inner.join("libneeded.so"), &shared);
    let inner = format!("-L{}", inner.display());
    let linked = ["-shared", "-fPIC", &inner, "-lneeded"];
    compile_with("plugin", &folder.join("plugin.so"), &linked);
    fake
}

#[test]
fn a_plugin_loaded_with_rtld_deepbind_reaches_the_daemon_and_is_found_as_its_program_says() {
    let fake = with_plugin("plugging");
    let probe = Probe::start("plugging", &fake.dir, &fake.socket(), &[], &[]);
    let mut connection = fake.accept();
    for _ in ["dlopen", "dlmopen"] {
        connection.call();
        connection.reply(Reply::Id(id()));
    }
    probe.prints(&[
        "dlopen distributed",
        "dlmopen distributed",
        "absent 1",
        "itself 1",
    ]);
}

#[test]
fn a_program_may_have_rtld_deepbind_kept() {
    if !isolated() {
        return;
    }
    let fake = with_plugin("plugging-keep");
    let variables = [("DIPC_DEEPBIND", "keep")];
    let probe = Probe::start("plugging", &fake.dir, &fake.socket(), &[], &variables);
    probe.prints(&["dlopen local", "dlmopen local", "absent 1", "itself 1"]);
    assert!(fake.is_unvisited());
}
