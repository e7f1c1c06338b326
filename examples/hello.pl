#!/usr/bin/perl
# hello in Perl: greets or answers, as hello.h says. Perl's IPC::SysV knows
# nothing of dipc and no flag is given here: DIPC_KEYS=all declares every key
# distributed.
#
#   DIPC_KEYS=all dipc exec -n 1 -- perl hello.pl greet
#   DIPC_KEYS=all dipc exec -n 2 -- python3 hello.py answer
use strict;
use warnings;
use IPC::SysV qw(IPC_CREAT IPC_RMID);

use constant { KEY => 0x68656c6c, SIZE => 128, FROM_GREETER => 1, FROM_ANSWERER => 2 };

my $part = shift // '';
die "usage: hello.pl greet|answer\n" unless $part =~ /^(greet|answer)$/;
my $node = $ENV{DIPC_NODE} // 0;
$| = 1;

my $flags   = IPC_CREAT | 0600;
my $segment = shmget(KEY, SIZE, $flags) // die "shmget: $!\n";
my $turns   = semget(KEY, 1, $flags)    // die "semget: $!\n";
my $queue   = msgget(KEY, $flags)       // die "msgget: $!\n";

# Text travels as a C string in a field of SIZE bytes.
sub write_text {
    my $text = shift;
    print "I say:  $text\n";
    shmwrite($segment, pack('a' . SIZE, $text), 0, SIZE) or die "shmwrite: $!\n";
}

sub read_text {
    shmread($segment, my $field, 0, SIZE) or die "shmread: $!\n";
    print 'I hear: ', unpack('Z*', $field), "\n";
}

sub turn { semop($turns, pack('S! s! S!', 0, shift, 0)) or die "semop: $!\n" }

sub send_message {
    my ($type, $text) = @_;
    print "I say:  $text\n";
    msgsnd($queue, pack('l! a' . SIZE, $type, $text), 0) or die "msgsnd: $!\n";
}

sub receive_message {
    msgrcv($queue, my $message, SIZE, shift, 0) or die "msgrcv: $!\n";
    print 'I hear: ', (unpack('l! Z*', $message))[1], "\n";
}

if ($part eq 'greet') {
    send_message(FROM_GREETER, "Hello from Perl, process $$ on node $node");
    receive_message(FROM_ANSWERER);
    write_text('Do you see this memory?');
    turn(+2);
    turn(0);    # waits for zero
    read_text();
    shmctl($segment, IPC_RMID, 0) or die "shmctl: $!\n";
    semctl($turns, 0, IPC_RMID, 0) or die "semctl: $!\n";
    msgctl($queue, IPC_RMID, 0) or die "msgctl: $!\n";
} else {
    receive_message(FROM_GREETER);
    send_message(FROM_ANSWERER, "Hello yourself, from Perl, process $$ on node $node");
    turn(-1);
    read_text();
    write_text('I do, and I wrote into it');
    turn(-1);
}
