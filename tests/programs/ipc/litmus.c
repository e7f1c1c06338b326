/* Small programs of loads and stores that several processes run at once, again
 * and again, on two variables in shared memory: what each read and what was
 * left tells which orders the memory allows (litmus tests). And locks that
 * processes build from such instructions.
 *
 * The processes meet in a file that all map; it is this machine's own memory,
 * so that what they meet by does not put what they measure in order. */
#include "ipc.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STEPS 8      /* of one process */
#define REGISTERS 4
#define LANE 64      /* bytes of a page that one process writes to have the page */
#define SPINS 200    /* looks before a process that waits sleeps */

/* How the file begins; records follow. */
struct meeting {
    _Atomic uint32_t arrived, round;
};

/* What came of one run. */
struct record {
    uint8_t registers[REGISTERS];
    uint8_t left[2]; /* the variables' values after all */
    uint8_t unused[2];
};

enum kind { STORE, LOAD, FENCE };

struct step {
    enum kind kind;
    int variable; /* 0 is x, 1 is y */
    int what;     /* the value stored, the register loaded */
};

/* What one process needs to take part. */
struct part {
    volatile uint64_t *variable[2];
    struct meeting *meeting;
    uint32_t parties, me;
    uint64_t dice;
    int steps;
    struct step step[STEPS];
};

/* xorshift64: which pages a process has when a run begins, and how late it is. */
static uint32_t roll(struct part *p, uint32_t sides)
{
    p->dice ^= p->dice << 13;
    p->dice ^= p->dice >> 7;
    p->dice ^= p->dice << 17;
    return (uint32_t)(p->dice >> 33) % sides;
}

/* Waits until all have come. */
static void meet(struct part *p)
{
    struct meeting *m = p->meeting;
    uint32_t round = atomic_load(&m->round);
    if (atomic_fetch_add(&m->arrived, 1) + 1 == p->parties) {
        atomic_store(&m->arrived, 0);
        atomic_store(&m->round, round + 1);
        syscall(SYS_futex, &m->round, FUTEX_WAKE, p->parties, NULL, NULL, 0);
        return;
    }
    for (int looks = 0; atomic_load(&m->round) == round; looks++)
        if (looks >= SPINS)
            syscall(SYS_futex, &m->round, FUTEX_WAIT, round, NULL, NULL, 0);
}

/* "x=1", "r0=y" or "mfence"; 0 if it is none. */
static int parse(const char *word, struct step *step)
{
    if (strcmp(word, "mfence") == 0) {
        step->kind = FENCE;
        return 1;
    }
    int store = word[0] == 'x' || word[0] == 'y';
    const char *equals = strchr(word, '=');
    if (!equals || !equals[1])
        return 0;
    step->kind = store ? STORE : LOAD;
    step->variable = (store ? word[0] : equals[1]) == 'y';
    step->what = store ? equals[1] - '0' : (word[1] - '0') % REGISTERS;
    return 1;
}

/* Has the page of a variable here, readable or writable, or does nothing. The
 * word written is next to the variable, and nobody else's. */
static void warm(struct part *p)
{
    volatile uint64_t *word = p->variable[roll(p, 2)];
    switch (roll(p, 4)) {
    case 0: (void)*word; break;
    case 1: word[(p->me + 1) * LANE / sizeof *word] = 1; break;
    default: break;
    }
}

/* The process's own instructions, in this order: accesses are volatile, and on
 * x86 a volatile access is one instruction. */
static void run(const struct part *p, uint8_t *registers)
{
    for (const struct step *s = p->step; s < p->step + p->steps; s++)
        switch (s->kind) {
        case STORE: *p->variable[s->variable] = (uint64_t)s->what; break;
        case LOAD: registers[s->what] = (uint8_t)*p->variable[s->variable]; break;
        case FENCE: atomic_thread_fence(memory_order_seq_cst); break;
        }
}

static void take_part(struct part *p, struct record *records, long runs)
{
    for (long i = 0; i < runs; i++) {
        uint8_t registers[REGISTERS] = {0};
        if (i % p->parties == p->me)
            *p->variable[0] = *p->variable[1] = 0;
        meet(p);
        warm(p);
        meet(p);
        for (volatile uint32_t late = roll(p, 4) ? roll(p, 3000) : 0; late > 0; late--)
            ;
        run(p, registers);
        meet(p);
        for (const struct step *s = p->step; s < p->step + p->steps; s++)
            if (s->kind == LOAD)
                records[i].registers[s->what] = registers[s->what];
        if ((i + 1) % p->parties == p->me)
            for (int v = 0; v < 2; v++)
                records[i].left[v] = (uint8_t)*p->variable[v];
        /* The next run's zeros come after what was left has been read. */
        meet(p);
    }
}

/* litmus FILE RUNS PARTIES ME SEED SLOT OFFSET SLOT OFFSET STEP...: takes part in
 * RUNS runs as process ME; the slots and offsets are x's and y's */
static void litmus(struct line *l)
{
    long runs = number(l, 2);
    size_t size = sizeof(struct meeting) + (size_t)runs * sizeof(struct record);
    struct part p = {.parties = (uint32_t)number(l, 3),
                     .me = (uint32_t)number(l, 4),
                     .dice = (uint64_t)number(l, 5) * 2654435761u + 1};
    for (int v = 0; v < 2; v++)
        p.variable[v] = (volatile uint64_t *)(slots[number(l, 6 + 2 * v) % SLOTS] +
                                              number(l, 7 + 2 * v));
    for (int word = 10; word < l->count && p.steps < STEPS; word++)
        if (!parse(text(l, word), &p.step[p.steps++]))
            return add(l, "? %s is no step", text(l, word));
    int fd = open(text(l, 1), O_RDWR | O_CLOEXEC);
    if (fd == -1)
        return fail(l);
    p.meeting = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p.meeting == MAP_FAILED)
        return fail(l);
    take_part(&p, (struct record *)(p.meeting + 1), runs);
    munmap(p.meeting, size);
    succeed(l, runs);
}

/* alone BYTES: memory of this process alone, in place of a segment; the slot */
static void alone(struct line *l)
{
    tell_slot(l, mmap(NULL, (size_t)number(l, 1), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

/* A word that need not be aligned, read and written by one instruction. */
typedef uint64_t __attribute__((aligned(1))) anywhere;

/* spin_lock SLOT LOCK COUNTER TIMES: plain additions to the word at COUNTER, each
 * under the test-and-set lock at LOCK */
static void spin_lock(struct line *l)
{
    _Atomic uint64_t *lock = (_Atomic uint64_t *)place(l);
    volatile anywhere *counter = (volatile anywhere *)(slots[number(l, 1) % SLOTS] + number(l, 3));
    for (long i = number(l, 4); i > 0; i--) {
        while (atomic_exchange(lock, 1))
            while (atomic_load(lock))
                __builtin_ia32_pause();
        *counter = *counter + 1;
        atomic_store_explicit(lock, 0, memory_order_release);
    }
    succeed(l, 0);
}

/* ticket_lock SLOT LOCK COUNTER TIMES: the same under a lock that is taken in the
 * order of asking: the next ticket at LOCK, who is served in the word behind it */
static void ticket_lock(struct line *l)
{
    _Atomic uint64_t *lock = (_Atomic uint64_t *)place(l);
    volatile anywhere *counter = (volatile anywhere *)(slots[number(l, 1) % SLOTS] + number(l, 3));
    for (long i = number(l, 4); i > 0; i--) {
        uint64_t ticket = atomic_fetch_add(&lock[0], 1);
        while (atomic_load(&lock[1]) != ticket)
            __builtin_ia32_pause();
        *counter = *counter + 1;
        atomic_store_explicit(&lock[1], ticket + 1, memory_order_release);
    }
    succeed(l, 0);
}

/* compare_and_swap SLOT WORD TIMES: additions of 1 by cmpxchg */
static void compare_and_swap(struct line *l)
{
    _Atomic uint64_t *word = (_Atomic uint64_t *)place(l);
    for (long i = number(l, 3); i > 0; i--) {
        uint64_t seen = atomic_load(word);
        while (!atomic_compare_exchange_strong(word, &seen, seen + 1))
            ;
    }
    succeed(l, 0);
}

/* Peterson's lock for two, SLOT LOCK COUNTER TIMES ME: it holds only if stores and
 * loads keep the order that fences ask for */
static void peterson(struct line *l)
{
    _Atomic uint64_t *flag = (_Atomic uint64_t *)place(l), *turn = flag + 2;
    volatile anywhere *counter = (volatile anywhere *)(slots[number(l, 1) % SLOTS] + number(l, 3));
    int me = (int)number(l, 5) & 1, other = !me;
    for (long i = number(l, 4); i > 0; i--) {
        atomic_store(&flag[me], 1);
        atomic_store(turn, (uint64_t)other);
        while (atomic_load(&flag[other]) && atomic_load(turn) == (uint64_t)other)
            __builtin_ia32_pause();
        *counter = *counter + 1;
        atomic_store_explicit(&flag[me], 0, memory_order_release);
    }
    succeed(l, 0);
}

/* How many of a word's bytes from one on are not all one of 0 to PATTERNS. */
static int torn(const uint8_t *bytes, int patterns)
{
    int wrong = bytes[0] > patterns;
    for (int i = 1; i < 4; i++)
        wrong += bytes[i] != bytes[0];
    return wrong;
}

/* straddle SLOT OFFSET TIMES PATTERN PATTERNS: writes a word of the byte PATTERN
 * across the end of a page, in turns with reading it; counts the halves found
 * that nobody wrote as a whole */
static void straddle(struct line *l)
{
    volatile anywhere *word = (volatile anywhere *)place(l);
    uint64_t mine = 0x0101010101010101u * (uint64_t)number(l, 4);
    long wrong = 0;
    for (long i = number(l, 3); i > 0; i--) {
        *word = mine;
        uint64_t seen = *word;
        const uint8_t *bytes = (const uint8_t *)&seen;
        wrong += torn(bytes, (int)number(l, 5)) + torn(bytes + 4, (int)number(l, 5));
    }
    succeed(l, wrong);
}

const struct command litmus_tests[] = {
    {"litmus", 10, litmus},
    {"alone", 1, alone},
    {"spin_lock", 4, spin_lock},
    {"ticket_lock", 4, ticket_lock},
    {"compare_and_swap", 3, compare_and_swap},
    {"peterson", 5, peterson},
    {"straddle", 5, straddle},
    {0},
};
