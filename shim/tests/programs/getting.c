/* Two *get calls with IPC_DIPC, and one with an id out of nowhere. */
#include "probe.h"

int main(void)
{
    TRY("semget", semget(KEY, 1, IPC_DIPC) >= 0 ? 0 : -1);
    TRY("shmget", shmget(KEY, 4096, IPC_DIPC) >= 0 ? 0 : -1);
    TRY("by id", semctl(0x40400001, 0, GETVAL));
    return 0;
}
