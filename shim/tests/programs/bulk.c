/* Payloads longer than a packet, both ways. */
#include "probe.h"

#define VALUES 32000

static struct message message;
static unsigned short values[VALUES];

int main(void)
{
    int id = semget(KEY, 1, IPC_DIPC);
    union semun argument = { .array = values };
    long size = msgrcv(id, &message, sizeof message.text, 0, 0);
    long wrong = 0;
    for (long i = 0; i < size; i++) wrong += message.text[i] != (char)(i % 251);
    printf("text %ld of type %ld, wrong %ld\n", size, message.mtype, wrong);
    message.mtype = 3;
    TRY("msgsnd", msgsnd(id, &message, sizeof message.text, 0));
    TRY("GETALL", semctl(id, 0, GETALL, argument));
    wrong = 0;
    for (int i = 0; i < VALUES; i++) wrong += values[i] != i;
    printf("values wrong %ld\n", wrong);
    TRY("SETALL", semctl(id, 0, SETALL, argument));
    TRY("last", semctl(id, 0, GETVAL));
    return 0;
}
