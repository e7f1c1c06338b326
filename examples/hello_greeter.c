/* One half of hello: greets, and hears the answer. See hello.h.
 *
 *   cc -O2 -o hello_greeter hello_greeter.c
 *   dipc exec -n 1 -- ./hello_greeter      and, on any node,
 *   dipc exec -n 3 -- ./hello_answerer     or both without dipc */
#include "hello.h"

#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

int main(void)
{
    int flags = IPC_CREAT | 0600 | IPC_DIPC;
    int segment = must(shmget(HELLO_KEY, TEXT_SIZE, flags), "shmget");
    int turns = must(semget(HELLO_KEY, 1, flags), "semget");
    int queue = must(msgget(HELLO_KEY, flags), "msgget");

    char *text = shmat(segment, NULL, 0);
    if (text == (void *)-1) {
        perror("shmat");
        return 1;
    }

    /* A message carries words and turn at once. */
    struct message message = {.type = FROM_GREETER};
    snprintf(message.text, TEXT_SIZE, "Hello from process %d on node %d", getpid(), this_node());
    printf("I say:  %s\n", message.text);
    must(msgsnd(queue, &message, sizeof message.text, 0), "msgsnd");
    must(msgrcv(queue, &message, sizeof message.text, FROM_ANSWERER, 0), "msgrcv");
    printf("I hear: %.*s\n", TEXT_SIZE, message.text);

    /* Shared memory carries the words, the semaphore says whose turn it is. */
    snprintf(text, TEXT_SIZE, "Do you see this memory?");
    printf("I say:  %s\n", text);
    struct sembuf spoken = {.sem_num = 0, .sem_op = +2};
    struct sembuf answered = {.sem_num = 0, .sem_op = 0}; /* 0 waits for zero */
    must(semop(turns, &spoken, 1), "semop");
    must(semop(turns, &answered, 1), "semop");
    printf("I hear: %.*s\n", TEXT_SIZE, text);

    /* System V objects outlive their processes: remove them. */
    shmdt(text);
    must(shmctl(segment, IPC_RMID, NULL), "shmctl");
    must(semctl(turns, 0, IPC_RMID), "semctl");
    must(msgctl(queue, IPC_RMID, NULL), "msgctl");
    return 0;
}
