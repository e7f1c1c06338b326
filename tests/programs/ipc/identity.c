/* Commands that change who this process, or one thread of it, is; and what
 * shows whose an object is. */
#include "ipc.h"

#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

union semun {
    int val;
    struct semid_ds *buf;
};

/* A change of user clears what ends us with our driver. */
static void changed(struct line *l, long result)
{
    int error = errno;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    errno = error;
    tell(l, result);
}

/* resuid REAL EFFECTIVE SAVED: of all threads; -1 leaves one */
static void resuid(struct line *l)
{
    changed(l, setresuid((uid_t)number(l, 1), (uid_t)number(l, 2), (uid_t)number(l, 3)));
}

/* resgid REAL EFFECTIVE SAVED */
static void resgid(struct line *l)
{
    changed(l, setresgid((gid_t)number(l, 1), (gid_t)number(l, 2), (gid_t)number(l, 3)));
}

/* groups [GID...]: these supplementary groups and no others */
static void groups(struct line *l)
{
    gid_t list[WORDS];
    for (int w = 1; w < l->count; w++)
        list[w - 1] = (gid_t)number(l, w);
    changed(l, setgroups((size_t)l->count - 1, list));
}

/* capdrop CAPABILITY: not effective any more, in this thread */
static void capdrop(struct line *l)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    long capability = number(l, 1);
    if (syscall(SYS_capget, &header, data) == -1)
        return fail(l);
    data[capability / 32].effective &= ~(1U << capability % 32);
    tell(l, syscall(SYS_capset, &header, data));
}

/* userns: goes into a user namespace of its own, where it has all capabilities */
static void enter_user_namespace(struct line *l) { changed(l, unshare(CLONE_NEWUSER)); }

/* newpids: children live in a pid namespace of their own */
static void new_pids(struct line *l) { tell(l, unshare(CLONE_NEWPID)); }

/* as UID COMMAND: in a thread that alone becomes this user */
static struct {
    uid_t uid;
    char line[1024], *answer;
} other;

static void *as_other(void *nothing)
{
    /* Not by libc, which would change all threads. */
    if (syscall(SYS_setresuid, other.uid, other.uid, other.uid) == 0)
        perform(other.line, other.answer);
    return nothing;
}

static void as_user(struct line *l)
{
    pthread_t thread;
    other.uid = (uid_t)number(l, 1);
    other.answer = l->answer;
    other.line[0] = 0;
    for (int w = 2; w < l->count; w++) {
        strncat(other.line, l->word[w], sizeof other.line - strlen(other.line) - 2);
        strcat(other.line, " ");
    }
    errno = pthread_create(&thread, NULL, as_other, NULL);
    if (errno)
        return fail(l);
    pthread_join(thread, NULL);
}

/* vforkop ID NUM OP: semop in a vfork child; whether GETPID names that child */
static void vforkop(struct line *l)
{
    static volatile int error;
    struct sembuf op = {(unsigned short)number(l, 2), (short)number(l, 3), 0};
    int id = (int)number(l, 1);
    error = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        if (semop(id, &op, 1) == -1)
            error = errno;
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    errno = error;
    if (error || pid == -1)
        return fail(l);
    int last = semctl(id, op.sem_num, GETPID);
    tell(l, last == -1 ? -1 : last == pid);
}

/* sockets: the inodes of all that are open; a connection keeps its own */
static void sockets(struct line *l)
{
    struct stat file;
    add(l, "=");
    for (int fd = 3; fd < 2048; fd++)
        if (fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode))
            add(l, " %lu", file.st_ino);
}

/* semset ID UID GID MODE */
static void semset(struct line *l)
{
    struct semid_ds ds = {0};
    ds.sem_perm.uid = (uid_t)number(l, 2);
    ds.sem_perm.gid = (gid_t)number(l, 3);
    ds.sem_perm.mode = (unsigned short)number(l, 4);
    tell(l, semctl((int)number(l, 1), 0, IPC_SET, (union semun){.buf = &ds}));
}

/* semown ID: uid, gid, cuid, cgid */
static void semown(struct line *l)
{
    struct semid_ds ds;
    if (semctl((int)number(l, 1), 0, IPC_STAT, (union semun){.buf = &ds}) == -1)
        return fail(l);
    add(l, "= %u %u %u %u", ds.sem_perm.uid, ds.sem_perm.gid, ds.sem_perm.cuid, ds.sem_perm.cgid);
}

/* msggive ID UID GID MODE */
static void msggive(struct line *l)
{
    struct msqid_ds ds;
    if (msgctl((int)number(l, 1), IPC_STAT, &ds) == -1)
        return fail(l);
    ds.msg_perm.uid = (uid_t)number(l, 2);
    ds.msg_perm.gid = (gid_t)number(l, 3);
    ds.msg_perm.mode = (unsigned short)number(l, 4);
    tell(l, msgctl((int)number(l, 1), IPC_SET, &ds));
}

const struct command identities[] = {
    {"resuid", 3, resuid},   {"resgid", 3, resgid}, {"groups", 0, groups},
    {"capdrop", 1, capdrop}, {"as", 2, as_user},    {"userns", 0, enter_user_namespace},
    {"vforkop", 3, vforkop}, {"sockets", 0, sockets}, {"semset", 4, semset},
    {"newpids", 0, new_pids}, {"semown", 1, semown},   {"msggive", 4, msggive},
    {NULL, 0, NULL},
};
