/* Commands that change mappings, of attachments and of anything else. */
#include "ipc.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

/* reserve LENGTH: addresses without memory; the slot */
static void reserve(struct line *l)
{
    tell_slot(l, mmap(NULL, (size_t)number(l, 1), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

/* shmat_at ID SLOT OFFSET FLAGS: the slot */
static void at_place(struct line *l)
{
    char *address = slots[number(l, 2) % SLOTS] + number(l, 3);
    tell_slot(l, shmat((int)number(l, 1), address, (int)number(l, 4)));
}

/* shmat_low ID ADDRESS FLAGS: at an address by number */
static void at_number(struct line *l)
{
    tell_slot(l, shmat((int)number(l, 1), (char *)number(l, 2), (int)number(l, 3)));
}

/* shmdt_at SLOT OFFSET */
static void dt_place(struct line *l) { tell(l, shmdt(place(l))); }

/* munmap SLOT OFFSET LENGTH */
static void unmap(struct line *l) { tell(l, munmap(place(l), (size_t)number(l, 3))); }

/* protect SLOT OFFSET LENGTH PROT */
static void protect(struct line *l)
{
    tell(l, mprotect(place(l), (size_t)number(l, 3), (int)number(l, 4)));
}

/* madvise SLOT OFFSET LENGTH ADVICE */
static void advise(struct line *l)
{
    tell(l, madvise(place(l), (size_t)number(l, 3), (int)number(l, 4)));
}

/* mremap SLOT OFFSET OLD NEW FLAGS [TO_SLOT TO_OFFSET]: the slot of the new place */
static void remap(struct line *l)
{
    char *to = l->count > 6 ? slots[number(l, 6) % SLOTS] + number(l, 7) : NULL;
    tell_slot(l, mremap(place(l), (size_t)number(l, 3), (size_t)number(l, 4), (int)number(l, 5), to));
}

/* drop_rising SLOT OFFSET LAST: before each look at the word, drops its page by
 * MADV_DONTNEED, until the word is LAST; how often it fell */
static void drop_rising(struct line *l)
{
    int64_t last = number(l, 3), before = 0, now;
    long fell = 0;
    do {
        if (madvise(place(l), (size_t)sysconf(_SC_PAGESIZE), MADV_DONTNEED) == -1)
            return fail(l);
        now = *(_Atomic int64_t *)place(l);
        fell += now < before;
        before = now;
    } while (now < last);
    succeed(l, fell);
}

/* drop_xadd SLOT OFFSET TIMES: adds 1, and drops the page before and after; how
 * often the word had not risen since */
static void drop_xadd(struct line *l)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int64_t least = 0;
    long lost = 0;
    for (long i = 0; i < number(l, 3); i++) {
        if (madvise(place(l), page, MADV_DONTNEED) == -1)
            return fail(l);
        int64_t found = atomic_fetch_add((_Atomic int64_t *)place(l), 1);
        if (madvise(place(l), page, MADV_DONTNEED) == -1)
            return fail(l);
        int64_t after = *(_Atomic int64_t *)place(l);
        lost += found < least || after <= found;
        least = after;
    }
    succeed(l, lost);
}

/* cover SLOT OFFSET LENGTH: maps private memory over it */
static void cover(struct line *l)
{
    void *covered = mmap(place(l), (size_t)number(l, 3), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    tell(l, covered == MAP_FAILED ? -1 : 0);
}

/* apart SLOT SLOT: how far the second lies behind the first */
static void apart(struct line *l)
{
    succeed(l, slots[number(l, 2) % SLOTS] - slots[number(l, 1) % SLOTS]);
}

/* shmwho ID: nattch, and whether it was this process that attached or detached
 * last, whether anybody attached, and whether anybody detached */
static void who(struct line *l)
{
    struct shmid_ds ds;
    if (shmctl((int)number(l, 1), IPC_STAT, &ds) == -1)
        return fail(l);
    add(l, "= %lu %d %d %d", ds.shm_nattch, ds.shm_lpid == getpid(), ds.shm_atime != 0,
        ds.shm_dtime != 0);
}

/* shmpid ID: the last process that attached or detached */
static void last_pid(struct line *l)
{
    struct shmid_ds ds;
    if (shmctl((int)number(l, 1), IPC_STAT, &ds) == -1)
        return fail(l);
    succeed(l, ds.shm_lpid);
}

/* shmlock ID, shmunlock ID */
static void lock(struct line *l) { tell(l, shmctl((int)number(l, 1), SHM_LOCK, NULL)); }
static void unlock(struct line *l) { tell(l, shmctl((int)number(l, 1), SHM_UNLOCK, NULL)); }

const struct command mappings[] = {
    {"reserve", 1, reserve},  {"shmat_at", 4, at_place}, {"shmat_low", 3, at_number},
    {"shmdt_at", 2, dt_place}, {"munmap", 3, unmap},     {"protect", 4, protect},
    {"madvise", 4, advise},   {"mremap", 5, remap},      {"cover", 3, cover},
    {"apart", 2, apart},      {"shmwho", 1, who},        {"shmpid", 1, last_pid},
    {"shmlock", 1, lock},     {"shmunlock", 1, unlock},
    {"drop_rising", 3, drop_rising}, {"drop_xadd", 3, drop_xadd},
    {NULL, 0, NULL},
};
