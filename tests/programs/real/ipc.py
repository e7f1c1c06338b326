#!/usr/bin/env python3
"""The sysv_ipc module, used as a test tells it; see ipc.pl for the commands."""
import os
import sys

import sysv_ipc
from sysv_ipc import IPC_CREAT, IPC_CREX

SIZE = 128


class Objects:
    def create(self, key):
        key = int(key, 16)
        self.sem = sysv_ipc.Semaphore(key, IPC_CREX, 0o600, initial_value=1)
        self.sem.undo = True
        self.shm = sysv_ipc.SharedMemory(key, IPC_CREX, 0o600, SIZE)
        self.msg = sysv_ipc.MessageQueue(key, IPC_CREX, 0o600, SIZE)
        return 0

    def find(self, key):
        key = int(key, 16)
        self.sem = sysv_ipc.Semaphore(key)
        self.sem.undo = True
        self.shm = sysv_ipc.SharedMemory(key)
        self.msg = sysv_ipc.MessageQueue(key)
        return 0

    def acquire(self):
        self.sem.acquire()
        return 0

    def release(self):
        self.sem.release()
        return 0

    def put(self, text):
        self.shm.write(text.encode().ljust(SIZE, b"\0"))
        return 0

    def get(self):
        return self.shm.read(SIZE).split(b"\0", 1)[0].decode()

    def send(self, kind, text):
        self.msg.send(text.encode(), type=int(kind))
        return 0

    def receive(self, kind):
        return self.msg.receive(type=int(kind))[0].decode()

    def remove(self):
        for one in (self.shm, self.sem, self.msg):
            one.remove()
        return 0

    def details(self):
        """What else the module can do, on objects of this process's own."""
        own = sysv_ipc.Semaphore(None, IPC_CREX)
        own.value = 2
        found = [own.value, own.waiting_for_nonzero, own.waiting_for_zero]
        own.acquire(delta=2)
        own.block = False
        try:
            own.acquire()
        except sysv_ipc.BusyError:
            found.append("busy")
        own.Z()
        found.append("mine" if own.last_pid == os.getpid() else "not mine")
        own.mode = 0o640
        found.append(f"{own.mode & 0o777:o}")
        found += [self.shm.size, self.shm.number_attached]
        self.shm.detach()
        found.append(self.shm.number_attached)
        self.shm.attach()
        found += [self.msg.current_messages, self.msg.max_size]
        own.remove()
        try:
            own.release()
        except sysv_ipc.ExistentialError:
            found.append("gone")
        return " ".join(map(str, found))

    def exit(self):
        sys.exit(0)


print("=", os.getpid(), flush=True)
objects = Objects()
for line in sys.stdin:
    command, *arguments = line.split()
    try:
        print("=", getattr(objects, command)(*arguments), flush=True)
    except (sysv_ipc.Error, OSError) as error:
        print("!", type(error).__name__, flush=True)
