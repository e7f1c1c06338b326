/* Commands on the address space: attachments at chosen places, and what
 * programs do to mappings behind the back of shmat. Slots are memory.c's. */
#include "ipc.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

static char *place(const struct line *l, int word)
{
    return *slot(number(l, word)) + number(l, word + 1);
}

static size_t length(const struct line *l, int word) { return (size_t)number(l, word); }

/* reserve LENGTH: inaccessible memory of our own; the slot */
static void reserve(struct line *l)
{
    void *memory = mmap(NULL, length(l, 1), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return fail(l);
    succeed(l, keep(memory));
}

/* shmat_at ID FLAGS SLOT OFFSET: the new slot, and how far from the place
 * asked for it begins */
static void at(struct line *l)
{
    char *wanted = place(l, 3);
    char *address = shmat((int)number(l, 1), wanted, (int)number(l, 2));
    if (address == (char *)-1)
        return fail(l);
    add(l, "= %d %td", keep(address), address - wanted);
}

/* shmdt_at SLOT OFFSET: the slot stays */
static void dt(struct line *l) { tell(l, shmdt(place(l, 1))); }

/* shmdt_null */
static void dt_null(struct line *l) { tell(l, shmdt(NULL)); }

/* munmap SLOT OFFSET LENGTH: the slot stays */
static void unmap(struct line *l) { tell(l, munmap(place(l, 1), length(l, 3))); }

/* mprotect_at SLOT OFFSET LENGTH PROTECTION */
static void protect(struct line *l)
{
    tell(l, mprotect(place(l, 1), length(l, 3), (int)number(l, 4)));
}

/* mremap SLOT LENGTH: moves it elsewhere; the new slot, the old one stays */
static void move(struct line *l)
{
    size_t size = length(l, 2);
    void *there = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *memory = mremap(*slot(number(l, 1)), size, size, MREMAP_MAYMOVE | MREMAP_FIXED, there);
    if (memory == MAP_FAILED)
        return fail(l);
    succeed(l, keep(memory));
}

/* madvise SLOT LENGTH ADVICE */
static void advise(struct line *l)
{
    tell(l, madvise(*slot(number(l, 1)), length(l, 2), (int)number(l, 3)));
}

/* aligned SLOT: whether it begins at a multiple of SHMLBA */
static void aligned(struct line *l) { succeed(l, (uintptr_t)*slot(number(l, 1)) % SHMLBA == 0); }

/* brk: the break; brk BYTES: how far it moved when told to move so far */
static void move_break(struct line *l)
{
    char *before = sbrk(0);
    if (l->count < 2)
        return succeed(l, (long)before);
    if (sbrk(number(l, 1)) == (void *)-1)
        return fail(l);
    succeed(l, (char *)sbrk(0) - before);
}

/* above_break BYTES: the page so far above the break; the slot */
static void above_break(struct line *l)
{
    uintptr_t place = (uintptr_t)sbrk(0) + length(l, 1);
    succeed(l, keep((char *)(place & ~(uintptr_t)(SHMLBA - 1))));
}

const struct command mappings[] = {
    {"reserve", 1, reserve},     {"shmat_at", 4, at},        {"shmdt_at", 2, dt},
    {"shmdt_null", 0, dt_null},  {"munmap", 3, unmap},       {"mprotect_at", 4, protect},
    {"mremap", 2, move},         {"madvise", 3, advise},     {"aligned", 1, aligned},
    {"brk", 0, move_break},      {"above_break", 1, above_break},
    {NULL, 0, NULL},
};
