#pragma once
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

/* Forks as the named way has it: by libc's fork, by its syscall, or past libc,
 * where nobody can see it. */
static inline pid_t fork_by(const char *way)
{
    if (!strcmp(way, "fork")) return fork();
#ifdef SYS_fork
    if (!strcmp(way, "SYS_fork")) return syscall(SYS_fork);
#endif
    if (!strcmp(way, "SYS_clone")) return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (!strcmp(way, "SYS_clone3")) {
        unsigned long long arguments[8] = { [4] = SIGCHLD };
        return syscall(SYS_clone3, arguments, sizeof arguments);
    }
#ifdef __x86_64__
    long child = SYS_clone;
    register long fifth asm("r8") = 0, fourth asm("r10") = 0;
    asm volatile("syscall" : "+a"(child)
                 : "D"(SIGCHLD), "S"(0L), "d"(0L), "r"(fourth), "r"(fifth)
                 : "rcx", "r11", "memory");
    return child;
#else
    return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}
