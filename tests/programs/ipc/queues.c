/* Commands on message queues. */
#include "ipc.h"

#include <sys/msg.h>

#define LARGEST 8192

struct message {
    long type;
    char text[LARGEST + 1];
};

/* msgget KEY FLAGS */
static void get(struct line *l) { tell(l, msgget((key_t)number(l, 1), (int)number(l, 2))); }

/* msgsnd ID TYPE FLAGS [TEXT] */
static void snd(struct line *l)
{
    struct message m = {.type = number(l, 2)};
    strncpy(m.text, text(l, 4), LARGEST);
    tell(l, msgsnd((int)number(l, 1), &m, strlen(m.text), (int)number(l, 3)));
}

/* msgrcv ID SIZE TYPE FLAGS: size, type, text */
static void rcv(struct line *l)
{
    struct message m;
    ssize_t size = msgrcv((int)number(l, 1), &m, (size_t)number(l, 2), number(l, 3),
                          (int)number(l, 4));
    if (size == -1)
        return fail(l);
    m.text[size] = 0;
    add(l, "= %zd %ld %s", size, m.type, m.text);
}

/* The byte at `place` of a message of this size that a test can tell from others. */
static char pattern(long size, long place) { return (char)(size * 31 + place * 7 + 1); }

/* msgsnd_pattern ID TYPE SIZE */
static void snd_pattern(struct line *l)
{
    long size = number(l, 3);
    struct message *m = malloc(sizeof *m + (size_t)size);
    m->type = number(l, 2);
    for (long i = 0; i < size; i++)
        m->text[i] = pattern(size, i);
    tell(l, msgsnd((int)number(l, 1), m, (size_t)size, 0));
    free(m);
}

/* msgrcv_pattern ID TYPE [ROOM]: the size, and how many bytes are wrong */
static void rcv_pattern(struct line *l)
{
    size_t room = l->count > 3 ? (size_t)number(l, 3) : LARGEST;
    struct message *m = malloc(sizeof *m + room);
    ssize_t size = msgrcv((int)number(l, 1), m, room, number(l, 2), 0);
    int wrong = 0;
    for (long i = 0; i < size; i++)
        wrong += m->text[i] != pattern(size, i);
    if (size == -1)
        fail(l);
    else
        add(l, "= %zd %d", size, wrong);
    free(m);
}

/* produce ID TYPE FIRST COUNT: COUNT messages, the numbers from FIRST on */
static void produce(struct line *l)
{
    for (long i = 0; i < number(l, 4); i++) {
        struct message m = {.type = number(l, 2)};
        int size = snprintf(m.text, LARGEST, "%ld", number(l, 3) + i);
        if (msgsnd((int)number(l, 1), &m, (size_t)size, 0) == -1)
            return fail(l);
    }
    succeed(l, 0);
}

/* consume ID TYPE: the numbers received, until one is negative */
static void consume(struct line *l)
{
    add(l, "=");
    for (;;) {
        struct message m;
        ssize_t size = msgrcv((int)number(l, 1), &m, LARGEST, number(l, 2), 0);
        if (size == -1) {
            l->answer[0] = 0;
            return fail(l);
        }
        m.text[size] = 0;
        if (m.text[0] == '-')
            return;
        add(l, " %s", m.text);
    }
}

/* msgrm ID */
static void rm(struct line *l) { tell(l, msgctl((int)number(l, 1), IPC_RMID, NULL)); }

/* msgstat ID: messages, bytes, qbytes, whether stime and rtime are set */
static void stat_queue(struct line *l)
{
    struct msqid_ds ds;
    if (msgctl((int)number(l, 1), IPC_STAT, &ds) == -1)
        return fail(l);
    add(l, "= %lu %lu %lu %d %d", ds.msg_qnum, ds.__msg_cbytes, ds.msg_qbytes, ds.msg_stime != 0,
        ds.msg_rtime != 0);
}

/* msgset ID QBYTES */
static void set(struct line *l)
{
    struct msqid_ds ds;
    if (msgctl((int)number(l, 1), IPC_STAT, &ds) == -1)
        return fail(l);
    ds.msg_qbytes = (msglen_t)number(l, 2);
    tell(l, msgctl((int)number(l, 1), IPC_SET, &ds));
}

const struct command queues[] = {
    {"msgget", 2, get},
    {"msgsnd", 3, snd},
    {"msgrcv", 4, rcv},
    {"msgsnd_pattern", 3, snd_pattern},
    {"msgrcv_pattern", 2, rcv_pattern},
    {"produce", 4, produce},
    {"consume", 2, consume},
    {"msgrm", 1, rm},
    {"msgstat", 1, stat_queue},
    {"msgset", 2, set},
    {NULL, 0, NULL},
};
