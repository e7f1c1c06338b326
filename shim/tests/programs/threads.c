/* A thread's connection ends with the thread, and serves its destructors. */
#include "probe.h"

static int id;
static pthread_key_t key;
static void late(void *unused) { (void)unused; TRY("destructor", semctl(id, 0, GETVAL)); }

static void *run(void *unused)
{
    pthread_setspecific(key, &id);
    TRY("thread", semctl(id, 0, GETVAL));
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_key_create(&key, late);
    id = semget(KEY, 1, IPC_DIPC);
    pthread_create(&thread, NULL, run, NULL);
    pthread_join(thread, NULL);
    TRY("main", semctl(id, 0, GETVAL));
    return 0;
}
