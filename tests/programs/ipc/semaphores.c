/* Commands on semaphores. Operations are written NUM:OP[:FLAGS]. */
#include "ipc.h"

#include <sys/sem.h>
#include <time.h>

static size_t operations(const struct line *line, int first, struct sembuf *ops)
{
    size_t count = 0;
    for (int w = first; w < line->count; w++) {
        char *end;
        ops[count].sem_num = (unsigned short)strtol(line->word[w], &end, 0);
        ops[count].sem_op = (short)(*end ? strtol(end + 1, &end, 0) : 0);
        ops[count].sem_flg = (short)(*end ? strtol(end + 1, &end, 0) : 0);
        count++;
    }
    return count;
}

/* semget KEY NSEMS FLAGS */
static void get(struct line *l)
{
    tell(l, semget((key_t)number(l, 1), (int)number(l, 2), (int)number(l, 3)));
}

/* semop ID OP... */
static void op(struct line *l)
{
    struct sembuf ops[WORDS];
    size_t count = operations(l, 2, ops);
    tell(l, semop((int)number(l, 1), ops, count));
}

/* semtimedop ID NANOSECONDS OP... */
static void timedop(struct line *l)
{
    struct sembuf ops[WORDS];
    size_t count = operations(l, 3, ops);
    long nanoseconds = number(l, 2);
    struct timespec timeout = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    tell(l, semtimedop((int)number(l, 1), ops, count, &timeout));
}

/* semups ID COUNT: one call of COUNT operations, each adding 1 to semaphore 0 */
static void ups(struct line *l)
{
    size_t count = (size_t)number(l, 2);
    struct sembuf *ops = calloc(count, sizeof *ops);
    for (size_t i = 0; i < count; i++)
        ops[i].sem_op = 1;
    tell(l, semop((int)number(l, 1), ops, count));
    free(ops);
}

/* semrepeat ID TIMES OP...: the same operations again and again */
static void repeat(struct line *l)
{
    struct sembuf ops[WORDS];
    size_t count = operations(l, 3, ops);
    for (long i = number(l, 2); i > 0; i--)
        if (semop((int)number(l, 1), ops, count) == -1)
            return fail(l);
    succeed(l, 0);
}

static void control(struct line *l, int command)
{
    union semun value = {.val = (int)number(l, 3)};
    tell(l, semctl((int)number(l, 1), (int)number(l, 2), command, value));
}

/* getval ID NUM, and so on; setval ID NUM VALUE; semrm ID */
static void getval(struct line *l) { control(l, GETVAL); }
static void getncnt(struct line *l) { control(l, GETNCNT); }
static void getzcnt(struct line *l) { control(l, GETZCNT); }
static void sempid(struct line *l) { control(l, GETPID); }
static void setval(struct line *l) { control(l, SETVAL); }
static void rm(struct line *l) { control(l, IPC_RMID); }

/* getall ID NSEMS */
static void getall(struct line *l)
{
    unsigned short values[WORDS];
    if (semctl((int)number(l, 1), 0, GETALL, (union semun){.array = values}) == -1)
        return fail(l);
    add(l, "=");
    for (int i = 0; i < number(l, 2); i++)
        add(l, " %u", values[i]);
}

/* setall ID VALUE... */
static void setall(struct line *l)
{
    unsigned short values[WORDS];
    for (int w = 2; w < l->count; w++)
        values[w - 2] = (unsigned short)number(l, w);
    tell(l, semctl((int)number(l, 1), 0, SETALL, (union semun){.array = values}));
}

/* semstat ID: nsems, whether otime is set, mode, key */
static void stat_set(struct line *l)
{
    struct semid_ds ds;
    if (semctl((int)number(l, 1), 0, IPC_STAT, (union semun){.buf = &ds}) == -1)
        return fail(l);
    add(l, "= %lu %d %o %#x", ds.sem_nsems, ds.sem_otime != 0, ds.sem_perm.mode & 07777,
        (unsigned)ds.sem_perm.__key);
}

const struct command semaphores[] = {
    {"semget", 3, get},       {"semop", 2, op},         {"semtimedop", 3, timedop},
    {"semrepeat", 3, repeat}, {"getval", 2, getval},    {"getncnt", 2, getncnt},
    {"getzcnt", 2, getzcnt},  {"sempid", 2, sempid},    {"setval", 3, setval},
    {"getall", 2, getall},    {"setall", 2, setall},    {"semstat", 1, stat_set},
    {"semrm", 1, rm},         {"semups", 2, ups},       {NULL, 0, NULL},
};
