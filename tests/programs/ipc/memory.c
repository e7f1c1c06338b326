/* Commands on shared memory. An attachment is named by a slot, so that a test
 * need not know addresses. A fault ends a command with "! SIGBUS" or
 * "! SIGSEGV" instead of ending the process. */
#include "ipc.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

__thread sigjmp_buf on_fault;
__thread volatile int may_fault;
char *slots[SLOTS];

static void fault(int signal)
{
    if (may_fault)
        siglongjmp(on_fault, signal);
    _exit(128 + signal);
}

void catch_faults(void)
{
    struct sigaction action = {.sa_handler = fault};
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
}

/* Runs `access` and answers for it if it faults. */
static void guarded(struct line *l, void (*access)(struct line *))
{
    int signal = sigsetjmp(on_fault, 1);
    if (signal == 0) {
        may_fault = 1;
        access(l);
    } else {
        l->answer[0] = 0;
        add(l, "! %s", signal == SIGBUS ? "SIGBUS" : "SIGSEGV");
    }
    may_fault = 0;
}

char *place(const struct line *l)
{
    return slots[number(l, 1) % SLOTS] + number(l, 2);
}

void tell_slot(struct line *l, void *address)
{
    int slot = 0;
    while (slot < SLOTS - 1 && slots[slot])
        slot++;
    if (address == (void *)-1)
        return fail(l);
    slots[slot] = address;
    succeed(l, slot);
}

/* shmget KEY SIZE FLAGS */
static void get(struct line *l)
{
    tell(l, shmget((key_t)number(l, 1), (size_t)number(l, 2), (int)number(l, 3)));
}

/* shmat ID FLAGS: the slot */
static void at(struct line *l)
{
    tell_slot(l, shmat((int)number(l, 1), NULL, (int)number(l, 2)));
}

/* shmdt SLOT */
static void dt(struct line *l)
{
    long slot = number(l, 1) % SLOTS;
    int result = shmdt(slots[slot]);
    if (result == 0)
        slots[slot] = NULL;
    tell(l, result);
}

/* shmrm ID */
static void rm(struct line *l) { tell(l, shmctl((int)number(l, 1), IPC_RMID, NULL)); }

/* shmstat ID: nattch, size, mode */
static void stat_segment(struct line *l)
{
    struct shmid_ds ds;
    if (shmctl((int)number(l, 1), IPC_STAT, &ds) == -1)
        return fail(l);
    add(l, "= %lu %zu %o", ds.shm_nattch, ds.shm_segsz, ds.shm_perm.mode & 07777);
}

/* peek SLOT OFFSET: a word of 64 bits */
static void peek(struct line *l) { succeed(l, *(_Atomic int64_t *)place(l)); }

/* poke SLOT OFFSET VALUE */
static void poke(struct line *l)
{
    *(_Atomic int64_t *)place(l) = number(l, 3);
    succeed(l, 0);
}

/* xadd SLOT OFFSET TIMES: lock-prefixed increments; the last old value */
static void xadd(struct line *l)
{
    int64_t old = 0;
    for (long i = number(l, 3); i > 0; i--)
        old = atomic_fetch_add((_Atomic int64_t *)place(l), 1);
    succeed(l, old);
}

/* increment SLOT OFFSET TIMES SEMID: plain increments, each under the lock
 * that semaphore 0 of a set is, with SEM_UNDO */
static void increment(struct line *l)
{
    struct sembuf lock = {0, -1, SEM_UNDO}, unlock = {0, +1, SEM_UNDO};
    for (long i = number(l, 3); i > 0; i--) {
        if (semop((int)number(l, 4), &lock, 1) == -1)
            return fail(l);
        ++*(volatile int64_t *)place(l);
        if (semop((int)number(l, 4), &unlock, 1) == -1)
            return fail(l);
    }
    succeed(l, 0);
}

/* count_to SLOT OFFSET LAST: writes 1, 2, ... LAST into a word that nobody else
 * writes, and answers how often another value was found there meanwhile */
static void count_to(struct line *l)
{
    volatile int64_t *word = (volatile int64_t *)place(l);
    long wrong = 0;
    for (int64_t i = 1; i <= number(l, 3); i++) {
        wrong += *word != i - 1;
        *word = i;
    }
    succeed(l, wrong);
}

/* watch SLOT OFFSET VALUE: reads until the word is another; that one */
static void watch(struct line *l)
{
    int64_t expected = number(l, 3), found;
    while ((found = *(_Atomic int64_t *)place(l)) == expected)
        ;
    succeed(l, found);
}

/* rising SLOT OFFSET LAST: reads until the word is LAST; how often it fell */
static void rising(struct line *l)
{
    int64_t last = number(l, 3), before = 0, now;
    long fell = 0;
    do {
        now = *(_Atomic int64_t *)place(l);
        fell += now < before;
        before = now;
    } while (now < last);
    succeed(l, fell);
}

/* fill SLOT OFFSET LENGTH BYTE */
static void fill(struct line *l)
{
    memset(place(l), (int)number(l, 4), (size_t)number(l, 3));
    succeed(l, 0);
}

/* differ SLOT OFFSET LENGTH BYTE: how many bytes are another */
static void differ(struct line *l)
{
    const volatile char *bytes = place(l);
    long wrong = 0;
    for (long i = 0; i < number(l, 3); i++)
        wrong += bytes[i] != (char)number(l, 4);
    succeed(l, wrong);
}

/* The word that a walk leaves at this place. */
static int64_t trace(long salt, long offset) { return (offset + 1) * (salt + 1); }

/* walk SLOT OFFSET LENGTH STRIDE SALT: writes a word at every STRIDE bytes */
static void walk(struct line *l)
{
    for (long i = 0; i < number(l, 3); i += number(l, 4))
        *(volatile int64_t *)(place(l) + i) = trace(number(l, 5), number(l, 2) + i);
    succeed(l, 0);
}

/* follow SLOT OFFSET LENGTH STRIDE SALT: how many words are not what walk wrote */
static void follow(struct line *l)
{
    long wrong = 0;
    for (long i = 0; i < number(l, 3); i += number(l, 4))
        wrong +=
            *(volatile int64_t *)(place(l) + i) != trace(number(l, 5), number(l, 2) + i);
    succeed(l, wrong);
}

/* The kernel itself copies: with a plain loop around partial results. */
static ssize_t transfer(const char *path, int flags, char *bytes, size_t length)
{
    int fd = open(path, flags, 0600);
    if (fd == -1)
        return -1;
    size_t done = 0;
    while (done < length) {
        ssize_t some = flags == O_RDONLY ? read(fd, bytes + done, length - done)
                                         : write(fd, bytes + done, length - done);
        if (some <= 0) {
            int error = errno;
            close(fd);
            errno = error;
            return some < 0 && done == 0 ? -1 : (ssize_t)done;
        }
        done += (size_t)some;
    }
    close(fd);
    return (ssize_t)done;
}

/* read SLOT OFFSET LENGTH PATH: read(2) of a file into the segment */
static void read_file(struct line *l)
{
    tell(l, transfer(text(l, 4), O_RDONLY, place(l), (size_t)number(l, 3)));
}

/* write SLOT OFFSET LENGTH PATH: write(2) of the segment into a file */
static void write_file(struct line *l)
{
    tell(l, transfer(text(l, 4), O_WRONLY | O_CREAT | O_TRUNC, place(l), (size_t)number(l, 3)));
}

/* mprotect SLOT LENGTH: makes an attachment writable */
static void protect(struct line *l)
{
    tell(l, mprotect(slots[number(l, 1) % SLOTS], (size_t)number(l, 2), PROT_READ | PROT_WRITE));
}

#define GUARDED(name) \
    static void guarded_##name(struct line *l) { guarded(l, name); }
GUARDED(peek)
GUARDED(poke)
GUARDED(xadd)
GUARDED(increment)
GUARDED(count_to)
GUARDED(watch)
GUARDED(rising)
GUARDED(fill)
GUARDED(differ)
GUARDED(walk)
GUARDED(follow)

const struct command memory[] = {
    {"shmget", 3, get},
    {"shmat", 2, at},
    {"shmdt", 1, dt},
    {"shmrm", 1, rm},
    {"shmstat", 1, stat_segment},
    {"peek", 2, guarded_peek},
    {"poke", 3, guarded_poke},
    {"xadd", 3, guarded_xadd},
    {"increment", 4, guarded_increment},
    {"count_to", 3, guarded_count_to},
    {"watch", 3, guarded_watch},
    {"rising", 3, guarded_rising},
    {"fill", 4, guarded_fill},
    {"differ", 4, guarded_differ},
    {"walk", 5, guarded_walk},
    {"follow", 5, guarded_follow},
    {"read", 4, read_file},
    {"write", 4, write_file},
    {"mprotect", 2, protect},
    {NULL, 0, NULL},
};
