/* Children that come otherwise than by fork. */
#include "ipc.h"

#include <signal.h>
#include <spawn.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* _fork: as fork; it runs no pthread_atfork handlers */
static pid_t without_handlers(const struct line *l)
{
    (void)l;
    return _Fork();
}
static void quiet_fork(struct line *l) { drive_child(l, without_handlers); }

/* The system call itself, as a program without libc makes it. */
static pid_t inline_clone(const struct line *l)
{
    (void)l;
#ifdef __x86_64__
    long result;
    register long tls __asm__("r8") = 0;
    register long child_tid __asm__("r10") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(SYS_clone), "D"(SIGCHLD), "S"(0), "d"(0), "r"(child_tid), "r"(tls)
                     : "rcx", "r11", "memory");
    return result < 0 ? -1 : (pid_t)result;
#else
    errno = ENOSYS;
    return -1;
#endif
}

/* clone: as fork, by a system call that nobody sees */
static void hidden_fork(struct line *l) { drive_child(l, inline_clone); }

static int status_of(pid_t pid)
{
    int status;
    return pid == -1 || waitpid(pid, &status, 0) == -1 ? -1 : status;
}

/* vfork: a child that ends at once; its wait status */
static void borrow(struct line *l)
{
    pid_t pid = vfork();
    if (pid == 0)
        _exit(0);
    tell(l, status_of(pid));
}

/* spawn PATH: runs a program; its wait status */
static void spawn(struct line *l)
{
    char *words[] = {l->word[1], NULL};
    pid_t pid;
    errno = posix_spawn(&pid, l->word[1], NULL, NULL, words, environ);
    tell(l, errno ? -1 : status_of(pid));
}

/* outlive SET SEGMENT TIMES: children that attach the segment and take one of the
 * set with SEM_UNDO, and end; how often their parent, which has waited for one,
 * finds that it has not ended yet */
static void outlive(struct line *l)
{
    int set = (int)number(l, 1), segment = (int)number(l, 2);
    long stale = 0;
    for (long i = number(l, 3); i > 0; i--) {
        struct sembuf take = {0, -1, SEM_UNDO};
        struct shmid_ds ds;
        pid_t pid = fork();
        if (pid == 0)
            _exit(shmat(segment, NULL, 0) == (void *)-1 || semop(set, &take, 1));
        if (status_of(pid) != 0 || shmctl(segment, IPC_STAT, &ds) == -1)
            return fail(l);
        stale += ds.shm_nattch != 0 || semctl(set, 0, GETVAL) != 1;
    }
    succeed(l, stale);
}

/* system COMMAND: its wait status */
static void shell(struct line *l) { tell(l, system(text(l, 1))); }

/* closefrom LOWEST */
static void close_from(struct line *l)
{
    closefrom((int)number(l, 1));
    succeed(l, 0);
}

const struct command births[] = {
    {"_fork", 0, quiet_fork}, {"clone", 0, hidden_fork}, {"vfork", 0, borrow},
    {"spawn", 1, spawn},      {"system", 1, shell},      {"closefrom", 1, close_from},
    {"outlive", 3, outlive},
    {NULL, 0, NULL},
};
