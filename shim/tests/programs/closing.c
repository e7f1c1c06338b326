/* Closes every descriptor and puts files of its own at all the numbers. */
#include "probe.h"

int main(int count, char **argument)
{
    (void)count;
    int id = semget(KEY, 1, IPC_DIPC);
    close_range(3, ~0u, 0);
    int file = open(argument[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (int fd = file + 1; fd < 600; fd++) dup2(file, fd);
    TRY("GETVAL", semctl(id, 0, GETVAL));
    int foreign = 0;
    for (int fd = file; fd < 600; fd++) foreign += fcntl(fd, F_GETFD) < 0;
    printf("closed by others %d, written %ld\n", foreign, (long)lseek(file, 0, SEEK_END));
    return 0;
}
