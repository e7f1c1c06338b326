/* The old way to a time-out: leave a blocked call by siglongjmp. */
#include "probe.h"

static sigjmp_buf away;
static void jump(int number) { (void)number; siglongjmp(away, 1); }

int main(void)
{
    struct sigaction action = { .sa_handler = jump };
    sigaction(SIGUSR1, &action, NULL);
    int id = semget(KEY, 1, IPC_DIPC);
    struct sembuf down = { 0, -1, 0 };
    volatile int jumps = 0;
    if (sigsetjmp(away, 1)) jumps++;
    if (jumps) signal(SIGUSR1, SIG_IGN);
    TRY("semop", semop(id, &down, 1));
    TRY("semop", semop(id, &down, 1));
    printf("jumps %d\n", jumps);
    return 0;
}
