/* actors: processes that make System V calls by a script, one after the other.
 *
 *   test ──script──▶ conductor ──baton──▶ actor 0, actor 1, …   (processes)
 *        ◀─results──           ◀──bell───
 *
 * The test writes a batch of steps to the conductor's standard input and reads
 * all results so far from its standard output; both are the structs below, as
 * they lie in memory. Conductor and actors share an arena: the conductor hands
 * the baton to one actor for a run of steps, and sleeps until the bell rings.
 * So a call costs no more than itself while the actor stays the same.
 *
 * The script says which steps wait, and which steps end whose wait. Whether an
 * actor waits can only be seen by looking whether its process sleeps; the
 * conductor looks only where the script says that one should, or when the bell
 * has been silent for a while.
 *
 * All numbers are those of history.rs beside the test. */
#ifndef ACTORS_H
#define ACTORS_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

enum { SLOTS = 5, STEPS = 512, OBJECTS = 512, ARGS = 16, MORE = 14, TEXT = 9000 };

/* In the order of history.rs. */
enum verb {
    SEMGET, SEMOP, GETVAL_, GETPID_, GETNCNT_, GETZCNT_, GETALL_, SETVAL_, SETALL_, SEMCTL,
    SEMSTAT, SEMSET, SEMRM, MSGGET, MSGSND, MSGRCV, MSGSTAT, MSGSET, MSGRM,
    SHMGET, SHMAT, SHMDT, SHMSTAT, SHMSET, SHMRM, SHMLOCK,
    SIGNAL, KILL, EXIT, EXEC, FORK
};

/* Whether a step's call waits. */
enum waits { RETURNS, WAITS, TIMES_OUT };

struct step {
    int32_t verb, slot;
    int32_t object; /* place in ids, or -1: args[0] is the id itself */
    int32_t binds;  /* where in ids the id goes that a get returns, or -1 */
    int32_t waits;
    uint32_t wakes;  /* the slots whose wait this step ends */
    int32_t settles; /* what waits must be seen to wait again before the next step */
    int32_t count;   /* of args */
    int64_t args[ARGS];
};

struct result {
    _Atomic int32_t ended;
    int32_t error; /* errno, 0 if it succeeded */
    int64_t value;
    int64_t more[MORE];
};

struct channel {
    _Atomic uint32_t order; /* bumped to hand over the baton */
    uint32_t taken;         /* the last order that the actor has begun */
    int32_t first, end;     /* its steps */
    _Atomic int32_t entered; /* the step whose call it is in */
    _Atomic int32_t done;   /* all steps before this one have ended */
    _Atomic pid_t pid;      /* who it is; 0 while it is being born */
};

struct arena {
    _Atomic uint32_t bell;
    struct channel channels[SLOTS];
    int32_t ids[OBJECTS];
    struct step steps[STEPS];
    struct result results[STEPS];
};

void ring(struct arena *);
/* Sleeps while *word is `value`, at most so many milliseconds; 0 for ever. */
void futex_wait(_Atomic uint32_t *word, uint32_t value, long milliseconds);
void futex_wake(_Atomic uint32_t *word);

/* The life of an actor: takes the baton, for ever. `memory` is the arena's
 * descriptor, for exec. */
_Noreturn void act(struct arena *, int slot, int memory);

#endif
