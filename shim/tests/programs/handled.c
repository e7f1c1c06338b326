#include "probe.h"

static struct message message = { 5, "hello" };

int main(void)
{
    int sem = semget(KEY, 3, IPC_CREAT | IPC_DIPC | 0600);
    TRY("semget", sem > 0 ? 0 : -1);
    struct sembuf ops[] = { { 0, 1, 0 }, { 2, -1, IPC_NOWAIT | SEM_UNDO } };
    struct timespec second = { 1, 5 };
    TRY("semop", semop(sem, ops, 2));
    TRY("semtimedop", semtimedop(sem, ops, 1, &second));
    TRY("GETVAL", semctl(sem, 1, GETVAL));
    TRY("GETPID", semctl(sem, 1, GETPID));
    TRY("GETNCNT", semctl(sem, 1, GETNCNT));
    TRY("GETZCNT", semctl(sem, 1, GETZCNT));
    union semun argument = { .val = 42 };
    TRY("SETVAL", semctl(sem, 1, SETVAL, argument));
    unsigned short values[3] = { 7, 8, 9 };
    argument.array = values;
    TRY("SETALL", semctl(sem, 0, SETALL, argument));
    TRY("GETALL", semctl(sem, 0, GETALL, argument));
    printf("values %d %d %d\n", values[0], values[1], values[2]);
    struct semid_ds set;
    memset(&set, 0xff, sizeof set);
    argument.buf = &set;
    TRY("IPC_STAT", semctl(sem, 0, IPC_STAT, argument));
    printf("set %lu %ld %o %d\n", set.sem_nsems, set.sem_otime, set.sem_perm.mode, set.sem_perm.uid);
    TRY("IPC_SET", semctl(sem, 0, IPC_SET, argument));
    TRY("IPC_RMID", semctl(sem, 0, IPC_RMID));

    int queue = msgget(KEY, IPC_CREAT | IPC_DIPC | 0600);
    TRY("msgget", queue > 0 ? 0 : -1);
    TRY("msgsnd", msgsnd(queue, &message, 5, 0));
    memset(&message, 0, sizeof message);
    TRY("msgrcv", msgrcv(queue, &message, sizeof message.text, -3, MSG_NOERROR));
    printf("message %ld %.5s\n", message.mtype, message.text);
    struct msqid_ds about;
    TRY("IPC_STAT", msgctl(queue, IPC_STAT, &about));
    printf("queue %lu %lu %d %d\n", about.msg_qnum, about.msg_qbytes, about.msg_lspid, about.msg_lrpid);
    TRY("IPC_SET", msgctl(queue, IPC_SET, &about));
    TRY("IPC_RMID", msgctl(queue, IPC_RMID, NULL));

    int segment = shmget(KEY, 5000, IPC_CREAT | IPC_DIPC | 0600);
    TRY("shmget", segment > 0 ? 0 : -1);
    struct shmid_ds shm;
    TRY("IPC_STAT", shmctl(segment, IPC_STAT, &shm));
    printf("segment %zu %lu %d %d\n", shm.shm_segsz, shm.shm_nattch, shm.shm_cpid, shm.shm_lpid);
    TRY("SHM_LOCK", shmctl(segment, SHM_LOCK, NULL));
    TRY("SHM_UNLOCK", shmctl(segment, SHM_UNLOCK, NULL));
    TRY("IPC_SET", shmctl(segment, IPC_SET, &shm));
    TRY("IPC_RMID", shmctl(segment, IPC_RMID, NULL));
    return 0;
}
