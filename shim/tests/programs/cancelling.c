/* A thread that is cancelled in open, a cancellation point, unwinds through it. */
#include "probe.h"

#include <sys/stat.h>

static void tidy(void *what) { printf("%s is tidied up\n", (char *)what); }

static void *wait_in_open(void *path)
{
    pthread_cleanup_push(tidy, "open");
    open(path, O_RDONLY); /* nobody writes to this FIFO */
    pthread_cleanup_pop(0);
    return NULL;
}

static void *wait_in_fopen(void *path)
{
    pthread_cleanup_push(tidy, "fopen");
    FILE *stream = fopen(path, "r");
    (void)stream;
    pthread_cleanup_pop(0);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 2 || mkfifo(argv[1], 0600) != 0)
        return 1;
    void *(*waiters[])(void *) = {wait_in_open, wait_in_fopen};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        void *end;
        pthread_create(&thread, NULL, waiters[i], argv[1]);
        pthread_cancel(thread);
        pthread_join(thread, &end);
        printf("%s\n", end == PTHREAD_CANCELED ? "cancelled" : "returned");
    }
    return 0;
}
