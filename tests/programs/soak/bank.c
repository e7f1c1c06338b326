/* A bank: accounts in shared memory, under the lock that a semaphore with SEM_UNDO
 * is. Whoever is killed with the lock leaves a journal, by which the next one
 * takes back what was half done. So as long as the memory is there, no money is
 * lost, and nothing in it goes back or is zero. */
#include "soak.h"

#include <errno.h>
#include <stddef.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define BANK_KEY 0x50a40000
#define PAGE 4096
#define ACCOUNTS 192
#define EACH 1000 /* on each account in the beginning */

enum { LOCK, OPEN, SEMAPHORES };

struct account {
    uint64_t check; /* never 0 */
    int64_t balance;
    uint64_t unused[6]; /* a cache line each: the accounts fill several pages */
};

struct bank {
    uint64_t generation;
    uint64_t version; /* of transfers */
    struct {
        uint64_t active, from, to;
        int64_t from_balance, to_balance;
    } journal;
    char rest_of_page[PAGE - 7 * 8];
    struct account accounts[ACCOUNTS];
};

union semun {
    int val;
    void *buf;
    unsigned short *array;
};

/* A bank that this process uses. */
struct place {
    int segment, semaphores;
    volatile struct bank *bank;
    uint64_t generation;
};

static key_t key(const struct worker *w) { return BANK_KEY + w->thing; }

static uint64_t check(uint64_t generation, uint64_t account)
{
    return generation << 16 | (account + 1);
}

/* Whether the bank went while it was used, as it may at any time. */
static int is_gone(void) { return errno == EINVAL || errno == EIDRM; }

/* Compiler and processor keep what is before it before what is after it. */
static void in_order(void) { atomic_thread_fence(memory_order_seq_cst); }

/* Waits for the bank; 0 when told to stop. */
static int enter(struct worker *w, struct place *p)
{
    for (; !stopped(w); pause_ms(5)) {
        p->segment = shmget(key(w), 0, IPC_DIPC);
        if (p->segment == -1 && errno != ENOENT)
            lost("shmget");
        p->semaphores = semget(key(w), 0, IPC_DIPC);
        if (p->semaphores == -1 && errno != ENOENT)
            lost("semget");
        if (p->segment == -1 || p->semaphores == -1)
            continue;
        int open = semctl(p->semaphores, OPEN, GETVAL);
        if (open == -1 && !is_gone())
            lost("semctl");
        if (open != 1)
            continue;
        p->bank = shmat(p->segment, NULL, 0);
        if (p->bank != (void *)-1)
            return 1;
        if (!is_gone())
            lost("shmat");
    }
    return 0;
}

/* Looks at every page. The bank is noted as broken if one is lost. */
static void look_over(struct worker *w, struct place *p)
{
    on_loss(&w->board->broken[w->thing], (uint64_t)p->semaphores);
    p->generation = p->bank->generation;
    if (p->generation == 0 || p->generation > atomic_load(&w->board->generations))
        bad("generation", p->generation, atomic_load(&w->board->generations));
    for (uint64_t i = 0; i < ACCOUNTS; i++)
        if (p->bank->accounts[i].check != check(p->generation, i))
            bad("account", p->bank->accounts[i].check, check(p->generation, i));
    on_loss(NULL, 0);
}

/* What was seen anywhere before must be seen here now. */
static uint64_t version_seen(struct worker *w, struct place *p)
{
    uint64_t known = atomic_load(&w->board->seen[w->thing]);
    in_order();
    uint64_t now = moment(p->generation, p->bank->version);
    if (generation_of(known) == p->generation && now < known)
        bad("version", now, known);
    return now;
}

static void change(struct place *p, int by, const char *what)
{
    struct sembuf operation = {LOCK, (short)by, SEM_UNDO};
    while (semop(p->semaphores, &operation, 1) == -1)
        if (errno != EINTR)
            lost(what);
}

/* Takes back what somebody was killed in. */
static void recover(volatile struct bank *b)
{
    if (!b->journal.active)
        return;
    b->accounts[b->journal.from].balance = b->journal.from_balance;
    b->accounts[b->journal.to].balance = b->journal.to_balance;
    in_order();
    b->journal.active = 0;
}

static void transfer(struct worker *w, volatile struct bank *b)
{
    uint64_t from = roll(w, ACCOUNTS), to = (from + 1 + roll(w, ACCOUNTS - 1)) % ACCOUNTS;
    int64_t amount = roll(w, 100);
    b->journal.from = from;
    b->journal.to = to;
    b->journal.from_balance = b->accounts[from].balance;
    b->journal.to_balance = b->accounts[to].balance;
    in_order();
    b->journal.active = 1;
    in_order();
    b->accounts[from].balance -= amount;
    b->accounts[to].balance += amount;
    b->version++;
    in_order();
    b->journal.active = 0;
}

/* To be called with the lock. */
static void audit(struct place *p)
{
    int64_t sum = 0;
    for (uint64_t i = 0; i < ACCOUNTS; i++) {
        if (p->bank->accounts[i].check != check(p->generation, i))
            bad("account", p->bank->accounts[i].check, check(p->generation, i));
        sum += p->bank->accounts[i].balance;
    }
    if (sum != ACCOUNTS * EACH)
        bad("sum", (uint64_t)sum, ACCOUNTS * EACH);
}

void teller(struct worker *w)
{
    struct place p;
    if (!enter(w, &p))
        return;
    look_over(w, &p);
    while (!stopped(w)) {
        change(&p, -1, "semop");
        recover(p.bank);
        version_seen(w, &p);
        if (roll(w, 16) == 0)
            audit(&p);
        transfer(w, p.bank);
        later(&w->board->seen[w->thing], version_seen(w, &p));
        change(&p, +1, "semop");
        progress(w);
    }
}

void watcher(struct worker *w)
{
    struct place p;
    if (!enter(w, &p))
        return;
    look_over(w, &p);
    while (!stopped(w)) {
        later(&w->board->seen[w->thing], version_seen(w, &p));
        if (generation_of(atomic_load(&w->board->seen[w->thing])) > p.generation) {
            errno = EIDRM; /* removed, which memory that is attached does not show */
            lost("bank");
        }
        uint64_t account = roll(w, ACCOUNTS);
        if (p.bank->accounts[account].check != check(p.generation, account))
            bad("account", p.bank->accounts[account].check, check(p.generation, account));
        progress(w);
        if (roll(w, 64) == 0)
            pause_ms(1);
    }
}

static void remove_bank(struct worker *w)
{
    int segment = shmget(key(w), 0, IPC_DIPC), semaphores = semget(key(w), 0, IPC_DIPC);
    if (segment != -1 && shmctl(segment, IPC_RMID, NULL) == -1 && !is_gone())
        lost("shmctl");
    if (semaphores != -1 && semctl(semaphores, 0, IPC_RMID) == -1 && !is_gone())
        lost("semctl");
}

/* Makes a bank; its semaphores' id. */
static int make(struct worker *w, uint64_t generation)
{
    int flags = IPC_DIPC | IPC_CREAT | IPC_EXCL | 0600;
    int segment = shmget(key(w), sizeof(struct bank), flags);
    if (segment == -1)
        lost("shmget");
    volatile struct bank *b = shmat(segment, NULL, 0);
    if (b == (void *)-1)
        lost("shmat");
    for (uint64_t i = 0; i < ACCOUNTS; i++) {
        b->accounts[i].check = check(generation, i);
        b->accounts[i].balance = EACH;
    }
    b->generation = generation;
    int semaphores = semget(key(w), SEMAPHORES, flags);
    if (semaphores == -1)
        lost("semget");
    if (semctl(semaphores, LOCK, SETVAL, (union semun){.val = 1}) == -1 ||
        semctl(semaphores, OPEN, SETVAL, (union semun){.val = 1}) == -1)
        lost("semctl");
    shmdt((const void *)b);
    return semaphores;
}

/* What an earlier banker left is removed: it may have been killed in the middle. */
void banker(struct worker *w)
{
    while (!stopped(w)) {
        remove_bank(w);
        uint64_t generation = atomic_fetch_add(&w->board->generations, 1) + 1;
        int semaphores = make(w, generation);
        progress(w);
        while (!stopped(w) && atomic_load(&w->board->broken[w->thing]) != (uint64_t)semaphores) {
            if (semctl(semaphores, OPEN, GETVAL) == -1) {
                if (!is_gone())
                    lost("semctl");
                break;
            }
            progress(w);
            pause_ms(20);
        }
    }
    /* It stays, for whoever looks whether its lock is free. */
}
