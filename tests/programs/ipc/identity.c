/* Commands that change who this process, or one thread of it, is, and what shows
 * who it was taken for. */
#include "ipc.h"

#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_GROUPS 64

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

static struct __user_cap_header_struct version = {_LINUX_CAPABILITY_VERSION_3, 0};

static long capabilities(struct __user_cap_data_struct half[2])
{
    return syscall(SYS_capget, &version, half);
}

/* capdrop CAPABILITY: not effective any more, in this thread */
static void capdrop(struct line *l)
{
    struct __user_cap_data_struct half[2];
    long capability = number(l, 1);
    if (capabilities(half) == -1)
        return fail(l);
    half[capability / 32].effective &= ~(1U << capability % 32);
    tell(l, syscall(SYS_capset, &version, half));
}

static long keep_only(unsigned long set)
{
    struct __user_cap_data_struct half[2];
    if (capabilities(half) == -1)
        return -1;
    for (int i = 0; i < 2; i++) {
        unsigned kept = (unsigned)(set >> 32 * i);
        half[i].effective = half[i].permitted & kept;
        half[i].permitted &= kept;
        half[i].inheritable = 0;
    }
    return syscall(SYS_capset, &version, half);
}

/* Another user, group and list of groups, for good. */
static int become(uid_t uid, gid_t gid, const gid_t *list, size_t count)
{
    if (setgroups(count, list) == -1 || setresgid(gid, gid, gid) == -1)
        return -1;
    return setresuid(uid, uid, uid);
}

/* setuid UID: and as group, with no others */
static void set_user(struct line *l)
{
    unsigned id = (unsigned)number(l, 1);
    changed(l, become(id, id, NULL, 0));
}

/* identity UID GID CAPABILITIES GROUP...: becomes that user with these
 * groups and this set of capabilities */
static void identity(struct line *l)
{
    gid_t list[MOST_GROUPS];
    size_t count = 0;
    for (int w = 4; w < l->count && count < MOST_GROUPS; w++)
        list[count++] = (gid_t)number(l, w);
    if (prctl(PR_SET_KEEPCAPS, 1) == -1 ||
        become((uid_t)number(l, 1), (gid_t)number(l, 2), list, count) == -1)
        return fail(l);
    changed(l, keep_only(strtoul(text(l, 3), NULL, 0)));
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
    command_from(l, 2, other.line, sizeof other.line);
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

const struct command identities[] = {
    {"setuid", 1, set_user},   {"identity", 3, identity}, {"resuid", 3, resuid},
    {"resgid", 3, resgid},     {"groups", 0, groups},     {"capdrop", 1, capdrop},
    {"userns", 0, enter_user_namespace}, {"newpids", 0, new_pids}, {"as", 2, as_user},
    {"vforkop", 3, vforkop},   {"sockets", 0, sockets},
    {NULL, 0, NULL},
};
