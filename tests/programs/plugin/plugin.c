/* A library that programs load at run time, as PHP loads its extensions. */
#include <sys/sem.h>

int plugin_semop(int id, int operation)
{
    struct sembuf op = {0, (short)operation, 0};
    return semop(id, &op, 1);
}
