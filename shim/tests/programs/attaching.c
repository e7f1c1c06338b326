/* Reads what the daemon put into the segment, and writes for it to see. */
#include "probe.h"

int main(void)
{
    int id = shmget(KEY, 5000, IPC_DIPC);
    char *memory = shmat(id, NULL, 0);
    printf("byte %d\n", memory[4999]);
    memory[1] = 9;
    char *readable = shmat(id, NULL, SHM_RDONLY);
    printf("other byte %d\n", readable[1]);
    char *taken = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY("taken", shmat(id, taken, 0));
    char *there = shmat(id, taken, SHM_REMAP);
    printf("remapped %d, byte %d\n", there == taken, there[1]);
    char *again = shmat(id, readable, SHM_REMAP);
    printf("replaced %d\n", again == readable);
    again[2] = 1;
    TRY("refused", shmat(id, NULL, 0));
    TRY("inside", shmdt(memory + 4096));
    TRY("shmdt", shmdt(memory));
    TRY("again", shmdt(memory));
    unsigned char resident;
    printf("unmapped %d\n", mincore(memory, 4096, &resident) < 0 && errno == ENOMEM);
    TRY("unaligned", shmat(id, taken + 1, 0));
    return 0;
}
