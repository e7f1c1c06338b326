/* An actor: makes the calls of its steps. */
#include "actors.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BAD ((void *)8) /* points nowhere */

enum { ATTACHMENTS = 16, PARTS = 600 };

static void *attached[ATTACHMENTS];
static int attachments;

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

void futex_wait(_Atomic uint32_t *word, uint32_t value, long milliseconds)
{
    struct timespec most = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    syscall(SYS_futex, word, FUTEX_WAIT, value, milliseconds ? &most : NULL, NULL, 0);
}

void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void ring(struct arena *arena)
{
    atomic_fetch_add(&arena->bell, 1);
    futex_wake(&arena->bell);
}

static int64_t put_perm(int64_t *more, const struct ipc_perm *perm)
{
    int64_t fields[] = {perm->__key, perm->uid, perm->gid, perm->cuid, perm->cgid, perm->mode};
    memcpy(more, fields, sizeof fields);
    return 0;
}

static int64_t operate(int id, const struct step *step)
{
    /* timeout, copies of the last operation, then num, op, flags of each */
    static struct sembuf ops[PARTS];
    const int64_t *args = step->args;
    size_t count = 0;
    for (int at = 3; at + 2 < step->count; at += 3)
        ops[count++] = (struct sembuf){(unsigned short)args[at], (short)args[at + 1],
                                       (short)args[at + 2]};
    for (int64_t more = count ? args[2] : 0; more > 0 && count < PARTS; more--, count++)
        ops[count] = ops[count - 1];
    switch (args[1]) {
    case -1: return semop(id, ops, count);
    case -2: return semtimedop(id, ops, count, &(struct timespec){0, 1000000000});
    case -3: return semtimedop(id, ops, count, BAD);
    case -4: return semop(id, BAD, count);
    default: return semtimedop(id, ops, count, &(struct timespec){0, args[1]});
    }
}

static int64_t control(int id, int num, int command, int value)
{
    return semctl(id, num, command, (union semun){.val = value});
}

static unsigned short values[32000]; /* of the largest set */

static int64_t get_all(int id, int64_t *more)
{
    int64_t result = semctl(id, 0, GETALL, (union semun){.array = values});
    for (int i = 0; i < MORE && result == 0; i++)
        more[i] = values[i];
    return result;
}

static int64_t set_all(int id, const struct step *step)
{
    memset(values, 0, sizeof values);
    for (int i = 1; i < step->count; i++)
        values[i - 1] = (unsigned short)step->args[i];
    return semctl(id, 0, SETALL, (union semun){.array = values});
}

static int64_t stat_set(int id, int64_t *more)
{
    struct semid_ds ds;
    if (semctl(id, 0, IPC_STAT, (union semun){.buf = &ds}) == -1)
        return -1;
    put_perm(more, &ds.sem_perm);
    int64_t rest[] = {ds.sem_otime != 0, ds.sem_ctime != 0, (int64_t)ds.sem_nsems};
    memcpy(more + 6, rest, sizeof rest);
    return 0;
}

static int64_t stat_queue(int id, int64_t *more)
{
    struct msqid_ds ds;
    if (msgctl(id, IPC_STAT, &ds) == -1)
        return -1;
    put_perm(more, &ds.msg_perm);
    int64_t rest[] = {ds.msg_stime != 0, ds.msg_rtime != 0, ds.msg_ctime != 0,
                      (int64_t)ds.__msg_cbytes, (int64_t)ds.msg_qnum, (int64_t)ds.msg_qbytes,
                      ds.msg_lspid, ds.msg_lrpid};
    memcpy(more + 6, rest, sizeof rest);
    return 0;
}

static int64_t stat_segment(int id, int64_t *more)
{
    struct shmid_ds ds;
    if (shmctl(id, IPC_STAT, &ds) == -1)
        return -1;
    put_perm(more, &ds.shm_perm);
    int64_t rest[] = {(int64_t)ds.shm_segsz, ds.shm_atime != 0, ds.shm_dtime != 0,
                      ds.shm_ctime != 0, ds.shm_cpid, ds.shm_lpid, (int64_t)ds.shm_nattch};
    memcpy(more + 6, rest, sizeof rest);
    return 0;
}

static struct ipc_perm new_perm(const int64_t *args)
{
    struct ipc_perm perm;
    memset(&perm, 0, sizeof perm);
    perm.uid = (uid_t)args[1];
    perm.gid = (gid_t)args[2];
    perm.mode = (unsigned short)args[3];
    return perm;
}

static struct {
    long type;
    unsigned char text[TEXT];
} message;

/* type, length, flags, tag */
static int64_t send_message(int id, const int64_t *args)
{
    message.type = args[1];
    for (int64_t i = 0; i < args[2] && i < TEXT; i++)
        message.text[i] = (unsigned char)(args[4] + i);
    return msgsnd(id, &message, (size_t)args[2], (int)args[3]);
}

/* type, room, flags; tells the type and a hash (FNV-1a) of the text */
static int64_t receive(int id, const int64_t *args, int64_t *more)
{
    ssize_t length = msgrcv(id, &message, (size_t)args[2], args[1], (int)args[3]);
    uint32_t hash = 2166136261u;
    for (ssize_t i = 0; i < length; i++)
        hash = (hash ^ message.text[i]) * 16777619u;
    more[0] = length < 0 ? 0 : message.type;
    more[1] = length < 0 ? 0 : hash;
    return length;
}

static int64_t attach(int id, int flags)
{
    void *at = shmat(id, NULL, flags);
    if (at == (void *)-1)
        return -1;
    if (attachments < ATTACHMENTS)
        attached[attachments++] = at;
    return 0;
}

static int64_t detach(int64_t which)
{
    if (which >= attachments)
        return shmdt(BAD);
    void *at = attached[which];
    memmove(attached + which, attached + which + 1,
            (size_t)(attachments - which - 1) * sizeof *attached);
    attachments--;
    return shmdt(at);
}

static int64_t fork_into(struct arena *arena, int slot, int memory)
{
    pid_t child = fork();
    if (child)
        return child;
    struct channel *channel = &arena->channels[slot];
    channel->taken = atomic_load(&channel->order);
    atomic_store(&channel->pid, getpid());
    ring(arena);
    act(arena, slot, memory);
}

static _Noreturn void start_anew(struct arena *arena, int slot, int memory)
{
    char number[12], descriptor[12];
    snprintf(number, sizeof number, "%d", slot);
    snprintf(descriptor, sizeof descriptor, "%d", memory);
    execl("/proc/self/exe", "actors", number, descriptor, (char *)NULL);
    ring(arena);
    _exit(127);
}

static int64_t perform(struct arena *arena, const struct step *step, int64_t *more, int memory)
{
    const int64_t *a = step->args;
    int id = step->object >= 0 ? arena->ids[step->object] : (int)a[0];
    struct semid_ds sem = {.sem_perm = new_perm(a)};
    struct msqid_ds msg = {.msg_perm = new_perm(a), .msg_qbytes = (msglen_t)a[4]};
    struct shmid_ds shm = {.shm_perm = new_perm(a)};
    switch ((enum verb)step->verb) {
    case SEMGET: return semget((key_t)a[0], (int)a[1], (int)a[2]);
    case SEMOP: return operate(id, step);
    case GETVAL_: return control(id, (int)a[1], GETVAL, 0);
    case GETPID_: return control(id, (int)a[1], GETPID, 0);
    case GETNCNT_: return control(id, (int)a[1], GETNCNT, 0);
    case GETZCNT_: return control(id, (int)a[1], GETZCNT, 0);
    case GETALL_: return get_all(id, more);
    case SETVAL_: return control(id, (int)a[1], SETVAL, (int)a[2]);
    case SETALL_: return set_all(id, step);
    case SEMCTL: return control(id, 0, (int)a[1], 0);
    case SEMSTAT: return stat_set(id, more);
    case SEMSET: return semctl(id, 0, IPC_SET, (union semun){.buf = &sem});
    case SEMRM: return control(id, 0, IPC_RMID, 0);
    case MSGGET: return msgget((key_t)a[0], (int)a[1]);
    case MSGSND: return send_message(id, a);
    case MSGRCV: return receive(id, a, more);
    case MSGSTAT: return stat_queue(id, more);
    case MSGSET: return msgctl(id, IPC_SET, &msg);
    case MSGRM: return msgctl(id, IPC_RMID, NULL);
    case SHMGET: return shmget((key_t)a[0], (size_t)a[1], (int)a[2]);
    case SHMAT: return attach(id, (int)a[1]);
    case SHMDT: return detach(a[0]);
    case SHMSTAT: return stat_segment(id, more);
    case SHMSET: return shmctl(id, IPC_SET, &shm);
    case SHMRM: return shmctl(id, IPC_RMID, NULL);
    case SHMLOCK: return shmctl(id, a[1] ? SHM_LOCK : SHM_UNLOCK, NULL);
    case FORK: return fork_into(arena, (int)a[0], memory);
    case EXIT: _exit(0);
    case EXEC: start_anew(arena, step->slot, memory);
    case SIGNAL:
    case KILL: break; /* the conductor's */
    }
    errno = ENOSYS;
    return -1;
}

_Noreturn void act(struct arena *arena, int slot, int memory)
{
    struct channel *channel = &arena->channels[slot];
    for (;;) {
        uint32_t order = atomic_load(&channel->order);
        if (order == channel->taken) {
            futex_wait(&channel->order, order, 0);
            continue;
        }
        channel->taken = order;
        int end = channel->end;
        for (int i = channel->first; i < end; i++) {
            const struct step *step = &arena->steps[i];
            struct result *result = &arena->results[i];
            /* Nobody would ring for the steps before one that waits. */
            if (step->waits == WAITS && i > channel->first)
                ring(arena);
            atomic_store(&channel->entered, i);
            errno = 0;
            result->value = perform(arena, step, result->more, memory);
            result->error = result->value == -1 ? errno : 0;
            if (step->binds >= 0 && result->value != -1)
                arena->ids[step->binds] = (int32_t)result->value;
            atomic_store(&channel->entered, -1);
            atomic_store(&result->ended, 1);
            atomic_store(&channel->done, i + 1);
        }
        ring(arena);
    }
}
