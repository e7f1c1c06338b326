/* Local objects: the kernel does everything. Flags come from the command line. */
#include "probe.h"

static struct message message = { 5, "hello" };

int main(int count, char **argument_texts)
{
    int flags = IPC_CREAT | 0600 | (count > 1 ? strtol(argument_texts[1], NULL, 8) : 0);
    int sem = semget(KEY, 1, flags);
    struct sembuf up = { 0, 1, 0 };
    struct timespec none = { 0, 0 };
    union semun argument = { .val = 41 };
    TRY("SETVAL", semctl(sem, 0, SETVAL, argument));
    TRY("semop", semop(sem, &up, 1));
    TRY("semtimedop", semtimedop(sem, &up, 1, &none));
    TRY("GETVAL", semctl(sem, 0, GETVAL));
    TRY("IPC_RMID", semctl(sem, 0, IPC_RMID));
    int queue = msgget(KEY, flags);
    TRY("msgsnd", msgsnd(queue, &message, 5, 0));
    TRY("msgrcv", msgrcv(queue, &message, 5, 0, 0));
    TRY("IPC_RMID", msgctl(queue, IPC_RMID, NULL));
    int segment = shmget(KEY, 4096, flags);
    char *memory = shmat(segment, NULL, 0);
    memory[0] = 1;
    TRY("shmdt", shmdt(memory));
    TRY("shmdt again", shmdt(memory));
    TRY("IPC_RMID", shmctl(segment, IPC_RMID, NULL));
    return 0;
}
