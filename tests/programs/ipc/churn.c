/* A process that is always in the middle of something, to be killed there. */
#include "ipc.h"

#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

/* One round: takes the token that semaphore 0 is, sends a message to itself,
 * attaches, cuts and moves the segment of eight pages, has a child, and gives
 * everything back. The name of the call that failed, or NULL. */
static const char *once(int set, int queue, int segment)
{
    struct sembuf take = {0, -1, SEM_UNDO}, give = {0, +1, SEM_UNDO};
    struct {
        long type;
        char text[64];
    } message = {.type = getpid()};
    if (semop(set, &take, 1) == -1)
        return "semop -1";
    if (msgsnd(queue, &message, sizeof message.text, 0) == -1)
        return "msgsnd";
    char *memory = shmat(segment, NULL, 0);
    if (memory == (char *)-1)
        return "shmat";
    *(volatile char *)memory = 1;
    if (mprotect(memory + PAGE, PAGE, PROT_READ) == -1)
        return "mprotect";
    if (munmap(memory + 3 * PAGE, PAGE) == -1)
        return "munmap of a part";
    char *moved = mremap(memory + 6 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    if (moved == MAP_FAILED)
        return "mremap";
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child == -1 || waitpid(child, NULL, 0) == -1)
        return "fork";
    if (munmap(moved, 2 * PAGE) == -1)
        return "munmap of what was moved";
    if (shmdt(memory) == -1)
        return "shmdt";
    if (msgrcv(queue, &message, sizeof message.text, getpid(), 0) != sizeof message.text)
        return "msgrcv";
    return semop(set, &give, 1) == -1 ? "semop +1" : NULL;
}

/* churn SEMID MSGID SHMID: until it is killed, or something fails */
static void churn(struct line *l)
{
    const char *failed = NULL;
    while (!failed)
        failed = once((int)number(l, 1), (int)number(l, 2), (int)number(l, 3));
    fail(l);
    add(l, " by %s", failed);
}

const struct command churning[] = {{"churn", 3, churn}, {NULL, 0, NULL}};
