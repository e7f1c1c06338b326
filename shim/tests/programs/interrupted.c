/* One call named on the command line, twice; then a last one that succeeds. */
#include "probe.h"

static struct message message = { 1, "x" };
static void nothing(int number) { (void)number; }

int main(int count, char **what)
{
    if (count > 2) on_signal(SIGUSR1, nothing);
    int id = semget(KEY, 1, IPC_DIPC);
    struct sembuf down = { 0, -1, 0 };
    for (int i = 0; i < 2; i++) {
        if (!strcmp(what[1], "semop")) TRY("semop", semop(id, &down, 1));
        if (!strcmp(what[1], "msgsnd")) TRY("msgsnd", msgsnd(id, &message, 1, 0));
        if (!strcmp(what[1], "msgrcv")) TRY("msgrcv", msgrcv(id, &message, 1, 0, 0));
    }
    TRY("last", semctl(id, 0, GETVAL));
    return 0;
}
