/* Many processes, one word: nothing is lost.
 *
 *   counter create                         makes the word and its lock, both 0
 *   counter atomic PROCESSES INCREMENTS    forks PROCESSES, each of which adds 1
 *                                          INCREMENTS times with one instruction
 *                                          (lock xadd on x86)
 *   counter semaphore PROCESSES INCREMENTS the same with a plain ++, guarded by
 *                                          a semaphore
 *   counter show                           prints the word
 *   counter remove                         removes word and lock
 *
 *   cc -O2 -o counter counter.c
 *   dipc exec -n 1 -- ./counter create
 *   for n in 1 2 3; do dipc exec -n $n -- ./counter atomic 4 100000 & done; wait
 *   dipc exec -n 1 -- ./counter show       1200000 */
#include "dipc.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNTER_KEY 0x636e7472 /* "cntr" */

/* One word, seen in two ways. */
union word {
    atomic_long atomic;
    volatile long plain;
};

static union word *word;
static int lock;

static int segment(int flags)
{
    return must(shmget(COUNTER_KEY, sizeof(union word), flags | IPC_DIPC), "shmget");
}

static int semaphore(int flags)
{
    return must(semget(COUNTER_KEY, 1, flags | IPC_DIPC), "semget");
}

/* A free lock is 0, which is what new semaphores are. To take it is to wait for
 * 0 and to add 1, both or nothing; to release it is to subtract 1.
 *
 * SEM_UNDO: if a process dies inside, on whatever node, the lock is released. */
static void take(void)
{
    struct sembuf both[] = {{.sem_op = 0}, {.sem_op = +1, .sem_flg = SEM_UNDO}};
    must(semop(lock, both, 2), "semop");
}

static void release(void)
{
    struct sembuf one = {.sem_op = -1, .sem_flg = SEM_UNDO};
    must(semop(lock, &one, 1), "semop");
}

static void count_atomically(long increments)
{
    for (long i = 0; i < increments; i++)
        atomic_fetch_add(&word->atomic, 1);
}

static void count_under_semaphore(long increments)
{
    for (long i = 0; i < increments; i++) {
        take();
        word->plain++;
        release();
    }
}

static void attach(void)
{
    word = shmat(segment(0), NULL, 0);
    if (word == (void *)-1) {
        perror("shmat");
        exit(1);
    }
}

/* Forked children inherit the attachment. Returns 0 if all of them succeeded. */
static int run(void (*count)(long), long processes, long increments)
{
    attach();
    lock = semaphore(0);
    for (long i = 0; i < processes; i++) {
        if (must(fork(), "fork") == 0) {
            count(increments);
            exit(0);
        }
    }
    int status, failed = 0;
    for (long i = 0; i < processes; i++) {
        must(wait(&status), "wait");
        failed |= status;
    }
    return failed != 0;
}

static long positive(const char *text)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < 1) {
        fprintf(stderr, "counter: '%s' is not a positive number\n", text);
        exit(2);
    }
    return number;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (argc == 2 && strcmp(mode, "create") == 0) {
        segment(IPC_CREAT | IPC_EXCL | 0600);
        semaphore(IPC_CREAT | IPC_EXCL | 0600);
        return 0;
    }
    if (argc == 4 && strcmp(mode, "atomic") == 0)
        return run(count_atomically, positive(argv[2]), positive(argv[3]));
    if (argc == 4 && strcmp(mode, "semaphore") == 0)
        return run(count_under_semaphore, positive(argv[2]), positive(argv[3]));
    if (argc == 2 && strcmp(mode, "show") == 0) {
        attach();
        printf("%ld\n", atomic_load(&word->atomic));
        return 0;
    }
    if (argc == 2 && strcmp(mode, "remove") == 0) {
        must(shmctl(segment(0), IPC_RMID, NULL), "shmctl");
        must(semctl(semaphore(0), 0, IPC_RMID), "semctl");
        return 0;
    }
    fprintf(stderr, "usage: counter create | show | remove |\n"
                    "       counter atomic|semaphore PROCESSES INCREMENTS\n");
    return 2;
}
