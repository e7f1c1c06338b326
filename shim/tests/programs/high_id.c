/* The kernel's own id with bit 30: made by asking for it. */
#include "probe.h"

int main(void)
{
    int wish = open("/proc/sys/kernel/sem_next_id", O_WRONLY);
    if (wish < 0 || write(wish, "1077936133", 10) != 10) return 3;
    int id = semget(IPC_PRIVATE, 1, 0600);
    union semun argument = { .val = 5 };
    struct sembuf up = { 0, 1, 0 };
    printf("id %d\n", id);
    TRY("SETVAL", semctl(id, 0, SETVAL, argument));
    TRY("semop", semop(id, &up, 1));
    TRY("GETVAL", semctl(id, 0, GETVAL));
    TRY("IPC_RMID", semctl(id, 0, IPC_RMID));
    return 0;
}
