/* The child must not speak on its parent's connection. */
#include "probe.h"

int main(int count, char **how)
{
    (void)count;
    int id = semget(KEY, 1, IPC_DIPC);
    pid_t child = fork_by(how[1]);
    if (child == 0) {
        TRY("child", semctl(id, 0, GETVAL));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    TRY("parent", semctl(id, 0, GETVAL));
    return 0;
}
