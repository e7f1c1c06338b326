/* soak BOARD ROLE SLOT THING SEED: one worker. */
#include "soak.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

uint32_t roll(struct worker *w, uint32_t sides)
{
    w->dice ^= w->dice << 13;
    w->dice ^= w->dice >> 7;
    w->dice ^= w->dice << 17;
    return (uint32_t)(w->dice >> 33) % sides;
}

int stopped(const struct worker *w) { return atomic_load(&w->board->stop) != 0; }

void progress(const struct worker *w) { atomic_fetch_add(&w->board->done[w->slot], 1); }

void pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

void later(_Atomic uint64_t *moment, uint64_t than)
{
    uint64_t known = atomic_load(moment);
    while (known < than && !atomic_compare_exchange_weak(moment, &known, than))
        ;
}

void lost(const char *what)
{
    printf("lost %s %s\n", what, strerrorname_np(errno));
    exit(3);
}

void bad(const char *what, uint64_t found, uint64_t expected)
{
    printf("bad %s: %#lx, not %#lx\n", what, (unsigned long)found, (unsigned long)expected);
    exit(4);
}

static _Atomic uint64_t *place_of_loss;
static uint64_t name_of_loss;

/* Only what a signal handler may do. */
static void fault(int signal)
{
    static const char bus[] = "lost memory SIGBUS\n", segv[] = "lost memory SIGSEGV\n";
    if (place_of_loss)
        atomic_store(place_of_loss, name_of_loss);
    if (signal == SIGBUS ? write(1, bus, sizeof bus - 1) : write(1, segv, sizeof segv - 1))
        _exit(3);
    _exit(3);
}

void on_loss(_Atomic uint64_t *where, uint64_t what)
{
    name_of_loss = what;
    place_of_loss = where;
}

/* Ends a call that waits, so that it is seen that it is time to stop. */
static void wake(int signal) { (void)signal; }

int main(int count, char **words)
{
    static const struct {
        const char *name;
        void (*work)(struct worker *);
    } roles[] = {{"banker", banker}, {"teller", teller}, {"watcher", watcher},
                 {"sender", sender}, {"receiver", receiver}};
    if (count != 6)
        return 2;
    /* Whoever started us may be killed: nothing of ours outlives it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sigaction action = {.sa_handler = fault};
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = wake}, NULL);
    int fd = open(words[1], O_RDWR | O_CLOEXEC);
    struct worker w = {.slot = atoi(words[3]) % WORKERS,
                       .thing = atoi(words[4]) % THINGS,
                       .dice = strtoul(words[5], NULL, 0) * 2654435761u + 1};
    w.board = mmap(NULL, sizeof *w.board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd == -1 || w.board == MAP_FAILED)
        return 2;
    close(fd);
    for (size_t role = 0; role < sizeof roles / sizeof *roles; role++)
        if (strcmp(roles[role].name, words[2]) == 0) {
            roles[role].work(&w);
            return 0;
        }
    return 2;
}
