/* Commands on many objects at once. The ids mostly stay here: an answer has no
 * room for all, and a test need not know them. */
#include "ipc.h"

#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define MOST 40000

static int ids[MOST];
static long count;

static int get(const char *kind, key_t key, int flags)
{
    if (strcmp(kind, "sem") == 0)
        return semget(key, 1, flags);
    if (strcmp(kind, "msg") == 0)
        return msgget(key, flags);
    return shmget(key, 4096, flags);
}

/* many KIND FIRST COUNT FLAGS: gets the objects of COUNT keys from FIRST on, or
 * as many private ones if FIRST is 0. If one fails, the ids before it stay. */
static void many(struct line *l)
{
    for (count = 0; count < number(l, 3) && count < MOST; count++) {
        key_t key = number(l, 2) ? (key_t)(number(l, 2) + count) : IPC_PRIVATE;
        ids[count] = get(text(l, 1), key, (int)number(l, 4));
        if (ids[count] == -1)
            return fail(l);
    }
    succeed(l, count);
}

/* getmany KIND FIRST COUNT FLAGS: the ids of COUNT keys, -1 for EEXIST */
static void get_many(struct line *l)
{
    add(l, "=");
    for (long i = 0; i < number(l, 3); i++) {
        int id = get(text(l, 1), (key_t)(number(l, 2) + i), (int)number(l, 4));
        if (id == -1 && errno != EEXIST) {
            l->answer[0] = 0;
            return fail(l);
        }
        add(l, " %d", id);
    }
}

/* exhaust KIND FLAGS: private objects until there is no space; how many */
static void exhaust(struct line *l)
{
    long made = 0;
    while (get(text(l, 1), IPC_PRIVATE, (int)number(l, 2)) != -1)
        made++;
    if (errno != ENOSPC)
        return fail(l);
    succeed(l, made);
}

/* many_save PATH, many_load PATH: how the ids of private objects get about */
static void save(struct line *l)
{
    FILE *file = fopen(text(l, 1), "w");
    if (!file)
        return fail(l);
    size_t done = fwrite(ids, sizeof *ids, (size_t)count, file);
    if (fclose(file) || done != (size_t)count)
        return fail(l);
    succeed(l, count);
}

static void load(struct line *l)
{
    FILE *file = fopen(text(l, 1), "r");
    if (!file)
        return fail(l);
    count = (long)fread(ids, sizeof *ids, MOST, file);
    fclose(file);
    succeed(l, count);
}

/* many_post VALUE: adds VALUE to semaphore 0 of each set */
static void post(struct line *l)
{
    struct sembuf add = {.sem_op = (short)number(l, 1)};
    for (long i = 0; i < count; i++)
        if (semop(ids[i], &add, 1) == -1)
            return fail(l);
    succeed(l, count);
}

/* many_differ VALUE: at how many sets semaphore 0 has another value */
static void differ(struct line *l)
{
    long wrong = 0;
    for (long i = 0; i < count; i++)
        wrong += semctl(ids[i], 0, GETVAL) != number(l, 1);
    succeed(l, wrong);
}

struct message {
    long type;
    long place;
};

/* many_send: into each queue its place among them */
static void send(struct line *l)
{
    for (long i = 0; i < count; i++) {
        struct message m = {.type = 1, .place = i};
        if (msgsnd(ids[i], &m, sizeof m.place, IPC_NOWAIT) == -1)
            return fail(l);
    }
    succeed(l, count);
}

/* many_receive: from how many queues another place came */
static void receive(struct line *l)
{
    long wrong = 0;
    for (long i = 0; i < count; i++) {
        struct message m;
        if (msgrcv(ids[i], &m, sizeof m.place, 0, IPC_NOWAIT) == -1)
            return fail(l);
        wrong += m.place != i;
    }
    succeed(l, wrong);
}

/* many_rm KIND */
static void rm(struct line *l)
{
    for (long i = 0; i < count; i++) {
        int done;
        if (strcmp(text(l, 1), "sem") == 0)
            done = semctl(ids[i], 0, IPC_RMID);
        else if (strcmp(text(l, 1), "msg") == 0)
            done = msgctl(ids[i], IPC_RMID, NULL);
        else
            done = shmctl(ids[i], IPC_RMID, NULL);
        if (done == -1)
            return fail(l);
    }
    succeed(l, count);
}

/* The value that set_fill gives to a semaphore: each differs from its neighbours. */
static unsigned short pattern(long num, long salt)
{
    return (unsigned short)((num * 7 + salt) % 32768);
}

static unsigned short values[1 << 16];

/* set_fill ID NSEMS SALT: SETALL */
static void set_fill(struct line *l)
{
    for (long i = 0; i < number(l, 2); i++)
        values[i] = pattern(i, number(l, 3));
    tell(l, semctl((int)number(l, 1), 0, SETALL, (union semun){.array = values}));
}

/* set_differ ID NSEMS SALT: GETALL; how many have another value, and the number
 * of the last of them */
static void set_differ(struct line *l)
{
    if (semctl((int)number(l, 1), 0, GETALL, (union semun){.array = values}) == -1)
        return fail(l);
    long wrong = 0, last = -1;
    for (long i = 0; i < number(l, 2); i++)
        if (values[i] != pattern(i, number(l, 3)))
            wrong++, last = i;
    add(l, "= %ld %ld", wrong, last);
}

const struct command many_objects[] = {
    {"many", 4, many},
    {"getmany", 4, get_many},
    {"exhaust", 2, exhaust},
    {"many_save", 1, save},
    {"many_load", 1, load},
    {"many_post", 1, post},
    {"many_differ", 1, differ},
    {"many_send", 0, send},
    {"many_receive", 0, receive},
    {"many_rm", 1, rm},
    {"set_fill", 3, set_fill},
    {"set_differ", 3, set_differ},
    {NULL, 0, NULL},
};
