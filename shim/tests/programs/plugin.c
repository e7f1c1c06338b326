/* A plug-in that makes System V calls, with a library beside it. */
#include <sys/ipc.h>
#include <sys/sem.h>

int needed(void);

int plugin_semget(int key)
{
    return semget(key, 1, IPC_CREAT | 010000 | 0600) + needed();
}
