/* Bad pointers, and calls after them that must still work. */
#include "probe.h"

int main(void)
{
    char *good = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *bad = good + 4096;
    mprotect(bad, 4096, PROT_NONE);
    *(long *)(bad - sizeof(long)) = 1; /* a type, whose text cannot be read */
    int id = semget(KEY, 1, IPC_DIPC);
    struct sembuf up = { 0, 1, 0 };
    struct timespec odd = { 0, 1000000000 };
    union semun argument = { .buf = (void *)bad };
    TRY("semop", semop(id, (void *)bad, 1));
    TRY("semop 501", semop(id, (void *)bad, 501));
    TRY("semtimedop", semtimedop(id, &up, 1, (void *)bad));
    TRY("semtimedop odd", semtimedop(id, &up, 1, &odd));
    TRY("msgsnd", msgsnd(id, bad, 1, 0));
    TRY("msgsnd text", msgsnd(id, bad - sizeof(long), 1, 0));
    TRY("msgsnd 8193", msgsnd(id, bad - sizeof(long), 8193, 0));
    TRY("IPC_SET", semctl(id, 0, IPC_SET, argument));
    TRY("IPC_STAT", semctl(id, 0, IPC_STAT, argument));
    TRY("msgrcv", msgrcv(id, bad, 5, 0, IPC_NOWAIT));
    TRY("GETVAL", semctl(id, 0, GETVAL));
    return 0;
}
