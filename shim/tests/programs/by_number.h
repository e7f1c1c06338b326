/* System V calls by their numbers, through libc's syscall. */
#pragma once
#include "probe.h"

#define semget(...) (int)syscall(SYS_semget, __VA_ARGS__)
#define semop(...) (int)syscall(SYS_semop, __VA_ARGS__)
#define semtimedop(...) (int)syscall(SYS_semtimedop, __VA_ARGS__)
#define semctl(...) (int)syscall(SYS_semctl, __VA_ARGS__)
#define msgget(...) (int)syscall(SYS_msgget, __VA_ARGS__)
#define msgsnd(...) (int)syscall(SYS_msgsnd, __VA_ARGS__)
#define msgrcv(id, message, size, type, flags) \
    (ssize_t)syscall(SYS_msgrcv, id, message, size, (long)(type), flags)
#define msgctl(...) (int)syscall(SYS_msgctl, __VA_ARGS__)
#define shmget(...) (int)syscall(SYS_shmget, __VA_ARGS__)
#define shmat(...) (void *)syscall(SYS_shmat, __VA_ARGS__)
#define shmdt(...) (int)syscall(SYS_shmdt, __VA_ARGS__)
#define shmctl(...) (int)syscall(SYS_shmctl, __VA_ARGS__)
