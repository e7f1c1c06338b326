/* The daemon goes away in the middle of a call, and then for good. */
#include "probe.h"

static struct message message = { 1, "x" };

int main(int count, char **in_flight)
{
    (void)count;
    int id = semget(KEY, 1, IPC_DIPC | IPC_CREAT);
    struct sembuf down = { 0, -1, 0 };
    if (!strcmp(in_flight[1], "semop")) TRY("semop", semop(id, &down, 1));
    if (!strcmp(in_flight[1], "msgrcv")) TRY("msgrcv", msgrcv(id, &message, 1, 0, 0));
    if (!strcmp(in_flight[1], "semctl")) TRY("semctl", semctl(id, 0, GETVAL));
    if (!strcmp(in_flight[1], "semget")) TRY("semget", semget(KEY, 1, IPC_DIPC));
    if (!strcmp(in_flight[1], "shmat")) TRY("shmat", shmat(id, NULL, 0));
    TRY("later semop", semop(id, &down, 1));
    TRY("later semget", semget(KEY, 1, IPC_DIPC));
    return 0;
}
