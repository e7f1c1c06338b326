/* Commands on what lies where in the address space. */
#include "ipc.h"

#include <stdint.h>
#include <sys/shm.h>
#include <unistd.h>

/* shmdt_null */
static void dt_null(struct line *l) { tell(l, shmdt(NULL)); }

/* aligned SLOT: whether it begins at a multiple of SHMLBA */
static void aligned(struct line *l)
{
    succeed(l, (uintptr_t)slots[number(l, 1) % SLOTS] % SHMLBA == 0);
}

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
    uintptr_t place = (uintptr_t)sbrk(0) + (uintptr_t)number(l, 1);
    tell_slot(l, (void *)(place & ~(uintptr_t)(SHMLBA - 1)));
}

const struct command places[] = {
    {"shmdt_null", 0, dt_null}, {"aligned", 1, aligned},         {"brk", 0, move_break},
    {"above_break", 1, above_break}, {NULL, 0, NULL},
};
