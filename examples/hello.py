#!/usr/bin/env python3
"""hello in Python: greets or answers, as hello.h says.

The sysv_ipc module (pip install sysv_ipc) knows nothing of dipc and no flag is
given here: DIPC_KEYS=all declares every key distributed.

    DIPC_KEYS=all dipc exec -n 1 -- perl hello.pl greet
    DIPC_KEYS=all dipc exec -n 2 -- python3 hello.py answer
"""
import os
import sys

import sysv_ipc
from sysv_ipc import IPC_CREAT

KEY, SIZE = 0x68656C6C, 128
FROM_GREETER, FROM_ANSWERER = 1, 2

if len(sys.argv) != 2 or sys.argv[1] not in ("greet", "answer"):
    sys.exit("usage: hello.py greet|answer")

segment = sysv_ipc.SharedMemory(KEY, IPC_CREAT, 0o600, SIZE)
turns = sysv_ipc.Semaphore(KEY, IPC_CREAT, 0o600)
queue = sysv_ipc.MessageQueue(KEY, IPC_CREAT, 0o600, SIZE)


def c_string(field):
    return field.split(b"\0", 1)[0].decode()


def write_text(text):
    print("I say: ", text, flush=True)
    segment.write(text.encode().ljust(SIZE, b"\0"))


def read_text():
    print("I hear:", c_string(segment.read(SIZE)), flush=True)


def send(kind, text):
    print("I say: ", text, flush=True)
    queue.send(text.encode().ljust(SIZE, b"\0"), type=kind)


def receive(kind):
    print("I hear:", c_string(queue.receive(type=kind)[0]), flush=True)


def greet(me):
    send(FROM_GREETER, f"Hello from {me}")
    receive(FROM_ANSWERER)
    write_text("Do you see this memory?")
    turns.release(delta=2)
    turns.Z()  # waits for zero
    read_text()
    segment.detach()
    segment.remove()
    turns.remove()
    queue.remove()


def answer(me):
    receive(FROM_GREETER)
    send(FROM_ANSWERER, f"Hello yourself, from {me}")
    turns.acquire()
    read_text()
    write_text("I do, and I wrote into it")
    turns.acquire()


part = {"greet": greet, "answer": answer}[sys.argv[1]]
part(f"Python, process {os.getpid()} on node {os.environ.get('DIPC_NODE', 0)}")
