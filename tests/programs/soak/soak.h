/* soak: the workers of a soak test. Each does its part until it is told to stop,
 * or killed, or something that it uses is lost:
 *
 *   exit 0   it was told to stop
 *   exit 3   something was lost, and "lost WHAT ERROR" says so: start it anew
 *   exit 4   what may never be was seen, and "bad WHAT" says so
 *
 * What workers of all nodes must agree on they note on the board, a file of this
 * machine that all map: it is what programs may tell each other past dipc. */
#ifndef SOAK_H
#define SOAK_H

#include <stdatomic.h>
#include <stdint.h>

#define IPC_DIPC 010000
#define WORKERS 64
#define THINGS 8 /* banks, and queues */

/* Words of the board. A moment is a generation, and how far that has come: of two
 * moments the greater is the later one. */
struct board {
    _Atomic uint64_t stop;
    _Atomic uint64_t generations;    /* how many there were */
    _Atomic uint64_t done[WORKERS];  /* what each worker has done, to see that it gets on */
    _Atomic uint64_t seen[THINGS];   /* the latest moment that anybody has seen of a bank */
    _Atomic uint64_t broken[THINGS]; /* the semaphores of a bank that lost a page */
    _Atomic uint64_t sent[THINGS];   /* the last message sent to a queue */
    _Atomic uint64_t got[THINGS];    /* the last one received */
    _Atomic uint64_t from[THINGS];   /* the id of the queue that it was received from */
    _Atomic uint64_t starts[THINGS]; /* how often an end of a queue was started */
    _Atomic uint64_t gaps[THINGS];   /* messages that were sent, or nearly, and not received */
};

/* This worker. */
struct worker {
    struct board *board;
    int slot;  /* in done */
    int thing; /* which bank, or queue */
    uint64_t dice;
};

#define PROGRESS 40 /* bits of a moment that are not its generation */
static inline uint64_t moment(uint64_t generation, uint64_t progress)
{
    return generation << PROGRESS | progress;
}
static inline uint64_t generation_of(uint64_t moment) { return moment >> PROGRESS; }

uint32_t roll(struct worker *, uint32_t sides);
int stopped(const struct worker *);
void progress(const struct worker *); /* one more thing is done */
void pause_ms(long);
void later(_Atomic uint64_t *moment, uint64_t than); /* raises it */

_Noreturn void lost(const char *what); /* by errno */
_Noreturn void bad(const char *what, uint64_t found, uint64_t expected);
/* A fault in memory is a loss; if `where` is not NULL, `what` is noted there. */
void on_loss(_Atomic uint64_t *where, uint64_t what);

void banker(struct worker *);  /* makes a bank, and makes it anew when it is lost */
void teller(struct worker *);  /* moves money under the bank's lock */
void watcher(struct worker *); /* sees that the bank never goes back */
void sender(struct worker *);
void receiver(struct worker *);

#endif
