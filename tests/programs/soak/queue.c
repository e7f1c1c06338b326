/* A queue with one sender and one receiver, started anew as often as they end.
 * A message is received once and in order. One that was under way when an end of
 * the queue was killed may be missing, so there are no more gaps than starts. */
#include "soak.h"

#include <errno.h>
#include <string.h>
#include <sys/msg.h>

#define QUEUE_KEY 0x50a50000
#define LONGEST 3000
#define HEAD (3 * sizeof(uint64_t))

struct message {
    long type;
    struct {
        uint64_t number; /* a moment: the sender's generation, and from 1 on */
        uint64_t queue;  /* the id it was sent to */
        uint64_t before; /* the last one that the sender before sent */
        unsigned char bytes[LONGEST];
    } text;
};

static key_t key(const struct worker *w) { return QUEUE_KEY + w->thing; }

/* What the bytes of a message are. */
static int letter(uint64_t number) { return (int)(number % 251) + 1; }

/* Both ends make the queue if it is not there. */
static int open_queue(struct worker *w)
{
    atomic_fetch_add(&w->board->starts[w->thing], 1);
    int queue = msgget(key(w), IPC_DIPC | IPC_CREAT | 0600);
    if (queue == -1)
        lost("msgget");
    return queue;
}

void sender(struct worker *w)
{
    static struct message m = {.type = 1};
    int queue = open_queue(w);
    m.text.queue = (uint64_t)queue;
    m.text.before = atomic_load(&w->board->sent[w->thing]);
    /* Greater than all that senders before it sent: their generation was less. */
    uint64_t number = moment(atomic_fetch_add(&w->board->generations, 1) + 1, 0);
    while (!stopped(w)) {
        size_t length = roll(w, 8) ? roll(w, 200) : roll(w, LONGEST);
        m.text.number = ++number;
        memset(m.text.bytes, letter(number), length);
        while (msgsnd(queue, &m, HEAD + length, 0) == -1) {
            if (errno != EINTR)
                lost("msgsnd");
            if (stopped(w))
                return;
        }
        atomic_store(&w->board->sent[w->thing], number);
        progress(w);
    }
}

/* How many messages are missing between the last one received and this one. What
 * was in a queue that is gone is not. */
static uint64_t missing(struct worker *w, const struct message *m, uint64_t last)
{
    uint64_t number = m->text.number;
    if (atomic_load(&w->board->from[w->thing]) != m->text.queue)
        return 0;
    if (generation_of(number) == generation_of(last))
        return number - last - 1;
    uint64_t tail = generation_of(m->text.before) == generation_of(last) && m->text.before > last
                        ? m->text.before - last
                        : 0;
    return tail + number - moment(generation_of(number), 1);
}

static void note(struct worker *w, const struct message *m)
{
    uint64_t last = atomic_load(&w->board->got[w->thing]), number = m->text.number;
    if (number <= last)
        bad("message", number, last + 1);
    uint64_t now = missing(w, m, last);
    uint64_t gaps = atomic_fetch_add(&w->board->gaps[w->thing], now) + now;
    uint64_t starts = atomic_load(&w->board->starts[w->thing]);
    if (gaps > starts)
        bad("gaps", gaps, starts);
    atomic_store(&w->board->from[w->thing], m->text.queue);
    atomic_store(&w->board->got[w->thing], number);
}

void receiver(struct worker *w)
{
    static struct message m;
    int queue = open_queue(w);
    while (!stopped(w)) {
        ssize_t length = msgrcv(queue, &m, sizeof m.text, 0, IPC_NOWAIT * !roll(w, 4));
        if (length == -1) {
            if (errno != EINTR && errno != ENOMSG)
                lost("msgrcv");
            continue;
        }
        for (size_t i = 0; i < (size_t)length - HEAD; i++)
            if (m.text.bytes[i] != letter(m.text.number))
                bad("byte", m.text.bytes[i], (uint64_t)letter(m.text.number));
        note(w, &m);
        progress(w);
    }
}
