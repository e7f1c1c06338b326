/* Answers with a payload that are not what they say. */
#include "probe.h"

int main(void)
{
    int id = msgget(KEY, IPC_DIPC | IPC_CREAT | 0600);
    struct message *message = calloc(1, sizeof *message);
    unsigned short values[100] = { 0 };
    union semun argument = { .array = values };
    TRY("msgrcv", msgrcv(id, message, 100, 0, IPC_NOWAIT));
    TRY("GETALL", semctl(id, 0, GETALL, argument));
    int touched = message->mtype != 0;
    for (int i = 0; i < 100; i++) touched |= message->text[i] | values[i];
    printf("untouched %d\n", !touched);
    TRY("last", semctl(id, 0, GETVAL));
    return 0;
}
