/* A handler that makes a call of its own in the middle of a blocked one. */
#include "probe.h"

static int id;
static volatile sig_atomic_t in_handler = -2;
static void ask(int number) { (void)number; if (in_handler == -2) in_handler = semctl(id, 0, GETVAL); }

int main(void)
{
    on_signal(SIGUSR1, ask);
    id = semget(KEY, 1, IPC_DIPC);
    struct sembuf down = { 0, -1, 0 };
    TRY("semop", semop(id, &down, 1));
    printf("in handler %d\n", (int)in_handler);
    TRY("GETVAL", semctl(id, 0, GETVAL));
    return 0;
}
