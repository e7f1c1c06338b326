/* A handler that makes two calls of its own in the middle of a blocked one. */
#include "probe.h"

static int id;
static volatile sig_atomic_t in_handler = -2;
static void ask(int number) { (void)number; if (in_handler == -2) in_handler = 10 * semctl(id, 0, GETVAL) + semctl(id, 0, GETVAL); }

int main(int count, char **where)
{
    struct sigaction action = { .sa_handler = ask, .sa_flags = SA_RESTART };
    if (count > 1 && !strcmp(where[1], "other-stack")) {
        stack_t other = { .ss_sp = malloc(SIGSTKSZ), .ss_size = SIGSTKSZ };
        sigaltstack(&other, NULL);
        action.sa_flags |= SA_ONSTACK;
    }
    sigaction(SIGUSR1, &action, NULL);
    id = semget(KEY, 1, IPC_DIPC);
    struct sembuf down = { 0, -1, 0 };
    TRY("semop", semop(id, &down, 1));
    printf("in handler %d\n", (int)in_handler);
    TRY("GETVAL", semctl(id, 0, GETVAL));
    return 0;
}
