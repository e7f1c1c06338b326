/* A handler forks in the middle of a blocked call: two processes return from it. */
#include "probe.h"

static volatile sig_atomic_t forked;
static volatile pid_t child = -1;
static void fork_once(int number)
{
    (void)number;
    if (forked++) return;
    child = fork();
    if (child > 0) waitpid(child, NULL, 0);
}

int main(void)
{
    on_signal(SIGUSR1, fork_once);
    int id = semget(KEY, 1, IPC_DIPC);
    struct sembuf down = { 0, -1, 0 };
    int result = semop(id, &down, 1);
    printf("%s %d %s\n", child ? "parent" : "child", result, strerrorname_np(errno));
    fflush(stdout);
    if (child == 0) _exit(0);
    TRY("GETVAL", semctl(id, 0, GETVAL));
    return 0;
}
