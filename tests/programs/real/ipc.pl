#!/usr/bin/perl
# Perl's IPC::Semaphore, IPC::SharedMem and IPC::Msg, used as a test tells it:
# one command a line, one answer a line, `= VALUE` or `! ERRNO`. ipc.php and
# ipc.py know the same commands.
use strict;
use warnings;
use IPC::Msg;
use IPC::Semaphore;
use IPC::SharedMem;
use IPC::SysV qw(IPC_CREAT IPC_NOWAIT S_IRUSR S_IWUSR SEM_UNDO);

use constant { SIZE => 128, FLAGS => IPC_CREAT | S_IRUSR | S_IWUSR };

my ($sem, $shm, $msg);

# What a call of the modules returns: false is a failure, as $! says.
sub done { return $_[0] ? 0 : die [ grep { $!{$_} } keys %! ] }

my %commands = (
    # The creator makes the semaphore free.
    create => sub {
        my $key = hex shift;
        $sem = IPC::Semaphore->new($key, 1, FLAGS) // die [];
        $sem->setval(0, 1);
        $shm = IPC::SharedMem->new($key, SIZE, FLAGS) // die [];
        $msg = IPC::Msg->new($key, FLAGS) // die [];
        done($shm->attach);
    },
    find => sub {
        my $key = hex shift;
        $sem = IPC::Semaphore->new($key, 0, 0) // die [ grep { $!{$_} } keys %! ];
        $shm = IPC::SharedMem->new($key, 0, 0) // die [ grep { $!{$_} } keys %! ];
        $msg = IPC::Msg->new($key, 0) // die [ grep { $!{$_} } keys %! ];
        done($shm->attach);
    },
    acquire => sub { done($sem->op(0, -1, SEM_UNDO)) },
    release => sub { done($sem->op(0, +1, SEM_UNDO)) },
    put     => sub { done($shm->write(shift, 0, SIZE)) },
    get     => sub { unpack 'Z*', $shm->read(0, SIZE) },
    send    => sub { done($msg->snd($_[0], $_[1])) },
    receive => sub { my $text; done(defined $msg->rcv($text, SIZE, shift)); $text },
    remove  => sub { done($shm->remove && $sem->remove && $msg->remove) },

    # What else the modules can do, on objects of this process's own.
    details => sub {
        my $own = IPC::Semaphore->new(0, 3, FLAGS) // die [];
        my @found;
        $own->setall(4, 5, 6);
        push @found, join ',', $own->getall;
        push @found, $own->op(0, -4, IPC_NOWAIT, 1, -6, IPC_NOWAIT) ? 'passed' : "refused $!{EAGAIN}";
        push @found, $own->getval(0), $own->getncnt(0), $own->getzcnt(0);
        push @found, $own->op(2, 1, 0) && $own->getpid(2) == $$ ? 'mine' : 'not mine';
        push @found, $own->stat->nsems, sprintf '%o', $own->stat->mode & 0777;
        $own->set(mode => 0640);
        push @found, sprintf '%o', $own->stat->mode & 0777;
        push @found, $shm->stat->segsz, $shm->stat->nattch;
        push @found, $msg->stat->qnum, $msg->stat->lspid == 0 ? 'silent' : 'used';
        $own->remove;
        join ' ', @found;
    },
    exit => sub { exit 0 },
);

$| = 1;
print "= $$\n";
while (my $line = <STDIN>) {
    my ($command, @arguments) = split ' ', $line;
    my $value = eval { $commands{$command}->(@arguments) };
    if (my $error = $@) {
        print ref $error ? "! @$error\n" : "! $error";
    } else {
        print "= $value\n";
    }
}
