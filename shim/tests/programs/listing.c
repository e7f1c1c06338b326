/* Lists the semaphore sets in three ways: how many lines the file has, what
 * SEM_INFO returns and counts, and the set at an index. */
#include "probe.h"

int main(void)
{
    char text[4096];
    int fd = open("/proc/sysvipc/sem", O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text);
    int lines = 0;
    for (ssize_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    printf("lines %d, descriptor %s\n", lines, fd == 3 ? "the lowest" : "another");
    struct seminfo info = {0};
    int highest = semctl(0, 0, SEM_INFO, (union semun){ .buf = (void *)&info });
    printf("highest %d, sets %d\n", highest, info.semusz);
    struct semid_ds ds;
    for (int index = 0; index <= highest + 1; index++)
        TRY("at", semctl(index, 0, SEM_STAT, (union semun){ .buf = &ds }));
    return 0;
}
