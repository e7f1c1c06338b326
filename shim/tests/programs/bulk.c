/* Answers longer than the library's own buffers. */
#include "probe.h"

static struct message message;
static unsigned short values[4000];

int main(void)
{
    int id = semget(KEY, 1, IPC_DIPC);
    union semun argument = { .array = values };
    long size = msgrcv(id, &message, sizeof message.text, 0, 0);
    long wrong = 0;
    for (long i = 0; i < size; i++) wrong += message.text[i] != (char)(i % 251);
    printf("text %ld of type %ld, wrong %ld\n", size, message.mtype, wrong);
    TRY("GETALL", semctl(id, 0, GETALL, argument));
    wrong = 0;
    for (int i = 0; i < 4000; i++) wrong += values[i] != i;
    printf("values wrong %ld\n", wrong);
    TRY("last", semctl(id, 0, GETVAL));
    return 0;
}
