/* A child reads through its parent's attachment. */
#include "probe.h"

int main(int count, char **how)
{
    (void)count;
    int id = shmget(KEY, 4096, IPC_DIPC);
    char *memory = shmat(id, NULL, 0);
    pid_t child = fork_by(how[1]);
    if (child == 0) {
        if (!strcmp(how[1], "inline")) TRY("call", semctl(id, 0, GETVAL));
        printf("child reads %d\n", memory[0]);
        fflush(stdout);
        TRY("child shmdt", shmdt(memory));
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    printf("child %s %d\n", WIFSIGNALED(status) ? "signal" : "exit",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    printf("parent reads %d\n", memory[0]);
    TRY("parent shmdt", shmdt(memory));
    return 0;
}
