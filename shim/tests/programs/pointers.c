/* Bad pointers, and calls after them that must still work. */
#include "probe.h"

int main(void)
{
    char *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int id = semget(KEY, 1, IPC_DIPC);
    struct sembuf up = { 0, 1, 0 };
    struct timespec odd = { 0, 1000000000 };
    union semun argument = { .buf = (void *)bad };
    TRY("semop", semop(id, (void *)bad, 1));
    TRY("semop 501", semop(id, (void *)bad, 501));
    TRY("semtimedop", semtimedop(id, &up, 1, (void *)bad));
    TRY("semtimedop odd", semtimedop(id, &up, 1, &odd));
    TRY("msgsnd", msgsnd(id, bad, 1, 0));
    TRY("msgsnd text", msgsnd(id, bad - 8, 1, 0));
    TRY("IPC_SET", semctl(id, 0, IPC_SET, argument));
    TRY("IPC_STAT", semctl(id, 0, IPC_STAT, argument));
    TRY("msgrcv", msgrcv(id, bad, 5, 0, IPC_NOWAIT));
    TRY("GETVAL", semctl(id, 0, GETVAL));
    return 0;
}
