/* ipc: a process that makes the System V calls it is told to make.
 *
 * A test writes one command a line to its standard input and reads one line of
 * answer for each:
 *
 *   = VALUE...     the call succeeded
 *   ! ERRNO        it failed, e.g. "! EAGAIN"
 *   ! SIGBUS       it touched memory that is lost (or SIGSEGV: not its own)
 *   ? TEXT         the command makes no sense
 *
 * So a test drives processes on several nodes step by step. Each file holds the
 * commands of one mechanism, in a table that main.c searches. */
#ifndef IPC_H
#define IPC_H

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define IPC_DIPC 010000 /* this object is distributed: reserved in <linux/ipc.h> */
#define ANSWER 65536    /* bytes of the longest answer */
#define WORDS 600       /* words of the longest command: semop takes 500 operations */

/* One command, split into words, and room for its answer. */
struct line {
    int count;
    char *word[WORDS];
    char *answer;
};

struct command {
    const char *name;
    int least; /* how many arguments it needs */
    void (*run)(struct line *);
};

extern const struct command semaphores[], queues[], memory[], mappings[], processes[], births[],
    churning[], places[], controls[], listing[], many_objects[], swarms[], traps[],
    identities[], litmus_tests[], attacks[];

/* The answers. */
void succeed(struct line *, long value);
void fail(struct line *); /* by errno */
void add(struct line *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* succeed or fail, as the result of a call says */
void tell(struct line *, long result);

long number(const struct line *, int word);      /* 0 when there is no such word */
const char *text(const struct line *, int word); /* "" when there is none */

/* The words from one on, as a command that perform can run. */
void command_from(const struct line *, int word, char *to, size_t room);

/* The fourth argument of semctl(2), which every program defines itself. */
union semun {
    int val;
    void *buf;
    unsigned short *array;
};

/* Places in memory, which tests know by number. */
#define SLOTS 32
extern char *slots[SLOTS];
char *place(const struct line *);              /* of the words SLOT OFFSET */
void tell_slot(struct line *, void *address);  /* the new slot, or fail for -1 */

/* Makes a child, to be driven as one that the command fork made. */
void drive_child(struct line *, pid_t (*make)(const struct line *));

/* Runs one command; `words` is cut up. */
void perform(char *words, char *answer);

/* Where a fault in this thread's memory access goes; see memory.c. */
extern __thread sigjmp_buf on_fault;
extern __thread volatile int may_fault;
void catch_faults(void);

#endif
