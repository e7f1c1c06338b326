//! Connections: whose they are, and how they end.

use dipc_wire::call::Reply;

use crate::calls::id;
use crate::fake::{Connection, Fake};
use crate::probe::Probe;

fn answer(connection: &mut Connection, reply: Reply<'_>) {
    connection.call();
    connection.reply(reply);
}

#[test]
fn a_program_that_closes_all_descriptors_and_reuses_their_numbers_goes_on_unharmed() {
    let fake = Fake::new("closing");
    let file = fake.dir.join("file");
    let arguments = [file.to_str().unwrap()];
    let probe = Probe::start("closing", &fake.dir, &fake.socket(), &arguments, &[]);
    let mut first = fake.accept();
    answer(&mut first, Reply::Id(id()));
    let mut second = fake.accept();
    assert!(first.is_over());
    answer(&mut second, Reply::Value(3));
    probe.prints(&["GETVAL 3", "closed by others 0, written 0"]);
}

#[test]
fn a_forked_child_opens_a_connection_of_its_own_and_its_parent_keeps_the_old_one() {
    for how in ["fork", "SYS_clone", "SYS_clone3", "inline"] {
        let fake = Fake::new(&format!("forking-{how}"));
        let probe = Probe::start("forking", &fake.dir, &fake.socket(), &[how], &[]);
        let mut parent = fake.accept();
        answer(&mut parent, Reply::Id(id()));
        let mut child = fake.accept();
        answer(&mut child, Reply::Value(1));
        assert!(child.is_over());
        answer(&mut parent, Reply::Value(2));
        assert!(parent.is_over());
        probe.prints(&["child 1", "parent 2"]);
    }
}

#[test]
fn a_threads_connection_ends_with_the_thread_and_serves_its_destructors() {
    let fake = Fake::new("threads");
    let probe = Probe::start("threads", &fake.dir, &fake.socket(), &[], &[]);
    let mut main = fake.accept();
    answer(&mut main, Reply::Id(id()));
    let mut thread = fake.accept();
    answer(&mut thread, Reply::Value(1));
    // libdipc.so's key is older than the program's, so its destructor comes first.
    assert!(thread.is_over());
    let mut late = fake.accept();
    answer(&mut late, Reply::Value(2));
    assert!(late.is_over(), "what a destructor opened is closed too");
    answer(&mut main, Reply::Value(3));
    probe.prints(&["thread 1", "destructor 2", "main 3"]);
}

#[test]
fn the_programs_own_versions_of_libc_functions_are_not_called() {
    let fake = Fake::new("overriding");
    let probe = Probe::start("overriding", &fake.dir, &fake.socket(), &[], &[]);
    let mut connection = fake.accept();
    answer(&mut connection, Reply::Id(id()));
    answer(&mut connection, Reply::Value(1));
    probe.prints(&["GETVAL 1"]);
}
