/* All that a C program needs to know of dipc: one flag.
 *
 * Or IPC_DIPC into the flags of shmget, semget or msgget, and the object
 * belongs to the whole cluster. A kernel without dipc ignores the flag, so the
 * same binary also runs alone: then the object is an ordinary, local one.
 *
 * The value is the one that <linux/ipc.h> has reserved for DIPC since 1997. */
#ifndef EXAMPLES_DIPC_H
#define EXAMPLES_DIPC_H

#include <stdio.h>
#include <stdlib.h>

#ifndef IPC_DIPC
#define IPC_DIPC 010000
#endif

/* The number of the node that this program runs on, 0 without a cluster.
 * `dipc exec` sets DIPC_NODE; nothing else depends on it. */
static inline int this_node(void)
{
    const char *node = getenv("DIPC_NODE");
    return node ? atoi(node) : 0;
}

/* Ends the program with the system's reason if a call failed. */
static inline int must(int result, const char *what)
{
    if (result == -1) {
        perror(what);
        exit(1);
    }
    return result;
}

#endif
