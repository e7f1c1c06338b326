/* The other half of hello: waits for the greeting and answers. See hello.h.
 *
 *   cc -O2 -o hello_answerer hello_answerer.c */
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

    struct message message;
    must(msgrcv(queue, &message, sizeof message.text, FROM_GREETER, 0), "msgrcv");
    printf("I hear: %.*s\n", TEXT_SIZE, message.text);
    message.type = FROM_ANSWERER;
    snprintf(message.text, TEXT_SIZE, "Hello yourself, from process %d on node %d", getpid(),
             this_node());
    printf("I say:  %s\n", message.text);
    must(msgsnd(queue, &message, sizeof message.text, 0), "msgsnd");

    /* The first of the greeter's two units: there is a text. */
    struct sembuf take = {.sem_num = 0, .sem_op = -1};
    must(semop(turns, &take, 1), "semop");
    printf("I hear: %.*s\n", TEXT_SIZE, text);
    snprintf(text, TEXT_SIZE, "I do, and I wrote into it");
    printf("I say:  %s\n", text);
    /* The second one: the semaphore is 0, and that is what the greeter awaits.
     * It then removes everything: touch nothing any more. */
    must(semop(turns, &take, 1), "semop");
    return 0;
}
