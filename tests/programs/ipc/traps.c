/* Commands that reach System V calls by other doors than their names, or in
 * states that a library inside the program finds hard. */
#include "ipc.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <spawn.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* syscall_semop ID OP: on semaphore 0, by libc's syscall() */
static void by_number(struct line *l)
{
    struct sembuf op = {0, (short)number(l, 2), 0};
    tell(l, syscall(SYS_semop, (int)number(l, 1), &op, 1UL));
}

/* plugin PATH ID OP: a semop by a library loaded with RTLD_DEEPBIND */
static void plugin(struct line *l)
{
    void *library = dlopen(text(l, 1), RTLD_NOW | RTLD_DEEPBIND);
    if (!library)
        return add(l, "? %s", dlerror());
    int (*add_to)(int, int) = (int (*)(int, int))dlsym(library, "plugin_semop");
    tell(l, add_to((int)number(l, 2), (int)number(l, 3)));
    dlclose(library);
}

/* vfork_until_line: a vforked child of ours that lives until a line comes in */
static void vfork_until_line(struct line *l)
{
    static char c;
    int status = 0;
    pid_t pid = vfork();
    if (pid == -1)
        return fail(l);
    if (pid == 0) {
        while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
            ;
        _exit(0);
    }
    tell(l, waitpid(pid, &status, 0) == pid ? status : -1);
}

/* posix_spawn PATH: runs a program by posix_spawn; its wait status */
static void spawn_program(struct line *l)
{
    pid_t pid;
    int status;
    char *words[] = {l->word[1], NULL};
    errno = posix_spawn(&pid, l->word[1], NULL, NULL, words, environ);
    tell(l, errno || waitpid(pid, &status, 0) == -1 ? -1 : status);
}

/* fork_semop ID OP: by a child of this thread that then is gone by _exit */
static void fork_semop(struct line *l)
{
    struct sembuf op = {0, (short)number(l, 2), SEM_UNDO};
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(semop((int)number(l, 1), &op, 1) == 0 ? 0 : 1);
    tell(l, pid == -1 || waitpid(pid, &status, 0) == -1 ? -1 : status);
}

/* futex_wake SLOT OFFSET: how many it woke */
static void futex_wake(struct line *l)
{
    char *word = place(l);
    tell(l, syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0));
}

/* futex_wait SLOT OFFSET VALUE: EAGAIN if the word is another */
static void futex_wait(struct line *l)
{
    char *word = place(l);
    tell(l, syscall(SYS_futex, word, FUTEX_WAIT, (int)number(l, 3), NULL, NULL, 0));
}

const struct command traps[] = {
    {"syscall_semop", 2, by_number},
    {"plugin", 3, plugin},
    {"vfork_until_line", 0, vfork_until_line},
    {"posix_spawn", 1, spawn_program},
    {"fork_semop", 2, fork_semop},
    {"futex_wake", 2, futex_wake},
    {"futex_wait", 3, futex_wait},
    {NULL, 0, NULL},
};
