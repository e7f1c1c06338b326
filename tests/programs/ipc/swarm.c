/* Commands on many processes that use one segment: children of this one, which
 * all do the same at the same time.
 *
 *   swarm        each child attaches (or has its parent's attachment), reports
 *   swarm_look   each reads a word and reports
 *   swarm_end    each exits
 *
 * A gate is a pipe whose writing end the parent closes: all children see its
 * end at once. What they find is in memory of the kernel's own that parent and
 * children share. */
#include "ipc.h"

#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 4096

enum { LOOK, END, GATES };

/* What a child has found. */
struct report {
    long nanoseconds; /* of its shmat */
    int error;        /* of its shmat, or 0 */
    int64_t word;
};

static struct {
    long offset;
    struct report of[MOST];
} *shared;

static pid_t members[MOST];
static char *inherited; /* the parent's attachment that they have, if any */
static long size;
static int gates[GATES][2], reports[2];

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

/* Until the parent opens it, or is gone. */
static void pass(int gate)
{
    char nothing;
    while (read(gates[gate][0], &nothing, 1) == -1 && errno == EINTR)
        ;
}

static void report(void)
{
    char done = 0;
    if (write(reports[1], &done, 1) != 1)
        _exit(1);
}

static void live(long place, int id, int flags)
{
    struct report *mine = &shared->of[place];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int g = 0; g < GATES; g++)
        close(gates[g][1]);
    long begin = now();
    char *volatile base = inherited ? inherited : shmat(id, NULL, flags);
    mine->nanoseconds = now() - begin;
    mine->error = base == (char *)-1 ? errno : 0;
    report();
    pass(LOOK);
    if (!mine->error && sigsetjmp(on_fault, 1) == 0) {
        may_fault = 1;
        mine->word = *(volatile int64_t *)(base + shared->offset);
    } else if (!mine->error) {
        mine->error = EFAULT;
    }
    may_fault = 0;
    report();
    pass(END);
    _exit(0);
}

/* Waits for a byte of each. */
static int await_reports(void)
{
    char bytes[512];
    for (long left = size; left > 0;) {
        size_t most = left < (long)sizeof bytes ? (size_t)left : sizeof bytes;
        ssize_t got = read(reports[0], bytes, most);
        if (got == 0 || (got == -1 && errno != EINTR))
            return -1;
        left -= got > 0 ? got : 0;
    }
    return 0;
}

static int by_time(const void *a, const void *b)
{
    long x = ((const struct report *)a)->nanoseconds, y = ((const struct report *)b)->nanoseconds;
    return (x > y) - (x < y);
}

/* swarm COUNT ID FLAGS HOW: HOW is "own" if each child attaches, "inherit" if
 * they have the attachment of their parent. How many are attached, the errno's
 * number of the last that is not, and median and longest time of an attach in
 * microseconds */
static void swarm(struct line *l)
{
    size = number(l, 1) < MOST ? number(l, 1) : MOST;
    int id = (int)number(l, 2), flags = (int)number(l, 3);
    inherited = NULL;
    if (strcmp(text(l, 4), "inherit") == 0 && (inherited = shmat(id, NULL, flags)) == (char *)-1)
        return fail(l);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || pipe(reports) == -1)
        return fail(l);
    for (int g = 0; g < GATES; g++)
        if (pipe(gates[g]) == -1)
            return fail(l);
    for (long i = 0; i < size; i++) {
        members[i] = fork();
        if (members[i] == -1)
            return fail(l);
        if (members[i] == 0)
            live(i, id, flags);
    }
    close(reports[1]);
    if (await_reports() == -1)
        return add(l, "? a child has ended");
    long attached = 0;
    int error = 0;
    for (long i = 0; i < size; i++)
        if (shared->of[i].error)
            error = shared->of[i].error;
        else
            attached++;
    static struct report sorted[MOST];
    memcpy(sorted, shared->of, sizeof sorted);
    qsort(sorted, (size_t)size, sizeof *sorted, by_time);
    add(l, "= %ld %d %ld %ld", attached, error, sorted[size / 2].nanoseconds / 1000,
        sorted[size - 1].nanoseconds / 1000);
}

/* swarm_look OFFSET VALUE: how many children read another word, and how many
 * read none, because they are not attached or may not touch it. They can be
 * asked once. */
static void look(struct line *l)
{
    shared->offset = number(l, 1);
    close(gates[LOOK][1]);
    if (await_reports() == -1)
        return add(l, "? a child has ended");
    long wrong = 0, none = 0;
    for (long i = 0; i < size; i++)
        if (shared->of[i].error)
            none++;
        else
            wrong += shared->of[i].word != number(l, 2);
    add(l, "= %ld %ld", wrong, none);
}

/* swarm_pid PLACE */
static void member(struct line *l) { succeed(l, members[number(l, 1) % MOST]); }

/* swarm_end: they end, and the attachment that they had from their parent; how
 * many ended otherwise than by exit 0 */
static void end(struct line *l)
{
    close(gates[END][1]);
    long wrong = 0;
    for (long i = 0; i < size; i++) {
        int status = -1;
        wrong += waitpid(members[i], &status, 0) == -1 || status != 0;
    }
    if (inherited && shmdt(inherited) == -1)
        return fail(l);
    close(reports[0]);
    for (int g = 0; g < GATES; g++)
        close(gates[g][0]);
    munmap(shared, sizeof *shared);
    succeed(l, wrong);
}

const struct command swarms[] = {
    {"swarm", 4, swarm},
    {"swarm_look", 2, look},
    {"swarm_pid", 1, member},
    {"swarm_end", 0, end},
    {NULL, 0, NULL},
};
