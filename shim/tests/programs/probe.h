/* What the probe programs share: one printed line for each call. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define IPC_DIPC 010000
#define KEY 0x4449

union semun { int val; struct semid_ds *buf; unsigned short *array; };
struct message { long mtype; char text[200000]; };

/* Prints "label value" or "label ERRNO"; a success must leave errno alone. */
#define TRY(label, call) do {                                              \
    errno = 77;                                                            \
    long value_ = (long)(call);                                            \
    if (value_ == -1) printf("%s %s\n", label, strerrorname_np(errno));    \
    else if (errno != 77) printf("%s touched errno\n", label);             \
    else printf("%s %ld\n", label, value_);                                \
    fflush(stdout);                                                        \
} while (0)

static inline void on_signal(int number, void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
    sigaction(number, &action, NULL);
}

/* A probe that hangs ends by SIGALRM. */
__attribute__((constructor)) static void no_hanging(void) { alarm(30); }
