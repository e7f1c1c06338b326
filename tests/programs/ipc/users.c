/* Commands on who a process is, and on other processes by their pids. */
#include "ipc.h"

#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_GROUPS 64

static int keep_only(unsigned long capabilities)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) == -1)
        return -1;
    for (int half = 0; half < 2; half++) {
        unsigned kept = (unsigned)(capabilities >> 32 * half);
        data[half].effective = data[half].permitted & kept;
        data[half].permitted &= kept;
        data[half].inheritable = 0;
    }
    return (int)syscall(SYS_capset, &header, data);
}

/* identity UID GID CAPABILITIES GROUP...: becomes that user with these
 * groups and this set of capabilities, for good */
static void identity(struct line *l)
{
    gid_t groups[MOST_GROUPS];
    size_t count = 0;
    for (int w = 4; w < l->count && count < MOST_GROUPS; w++)
        groups[count++] = (gid_t)number(l, w);
    gid_t gid = (gid_t)number(l, 2);
    uid_t uid = (uid_t)number(l, 1);
    if (prctl(PR_SET_KEEPCAPS, 1) == -1 || setgroups(count, groups) == -1 ||
        setresgid(gid, gid, gid) == -1 || setresuid(uid, uid, uid) == -1 ||
        keep_only(strtoul(text(l, 3), NULL, 0)) == -1)
        return fail(l);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* which a change of user clears */
    succeed(l, 0);
}

/* kill PID SIGNAL */
static void send_signal(struct line *l) { tell(l, kill((pid_t)number(l, 1), (int)number(l, 2))); }

const struct command users[] = {
    {"identity", 3, identity},
    {"kill", 2, send_signal},
    {NULL, 0, NULL},
};
