/* Commands that go through all objects. KIND is sem, msg or shm. */
#include "ipc.h"

#include <fcntl.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

/* at KIND COMMAND INDEX: the id at this index, and how large the object is */
static void at(struct line *l)
{
    int command = (int)number(l, 2), index = (int)number(l, 3);
    int id;
    unsigned long size;
    if (!strcmp(text(l, 1), "sem")) {
        struct semid_ds ds;
        id = semctl(index, 0, command, (union semun){.buf = &ds});
        size = ds.sem_nsems;
    } else if (!strcmp(text(l, 1), "msg")) {
        struct msqid_ds ds;
        id = msgctl(index, command, &ds);
        size = ds.msg_qnum;
    } else {
        struct shmid_ds ds;
        id = shmctl(index, command, &ds);
        size = ds.shm_segsz;
    }
    if (id == -1)
        return fail(l);
    add(l, "= %d %lu", id, size);
}

/* goround KIND INFO STAT: how many objects INFO and STAT by index lead to */
static void go_round(struct line *l)
{
    union {
        struct seminfo sem;
        struct msginfo msg;
        struct shm_info use;
        struct shmid_ds shm;
        struct msqid_ds queue;
        struct semid_ds set;
    } buffer;
    const char *kind = text(l, 1);
    int highest = 0, found = 0;
    for (int i = -1; i <= highest; i++) {
        int command = (int)number(l, i < 0 ? 2 : 3), index = i < 0 ? 0 : i;
        int result = !strcmp(kind, "sem")   ? semctl(index, 0, command, &buffer)
                     : !strcmp(kind, "msg") ? msgctl(index, command, (struct msqid_ds *)&buffer)
                                            : shmctl(index, command, (struct shmid_ds *)&buffer);
        if (i < 0 && result == -1)
            return fail(l);
        if (i < 0)
            highest = result;
        else
            found += result != -1;
    }
    succeed(l, found);
}

static int opened(const char *how, const char *path)
{
    if (!strcmp(how, "open"))
        return open(path, O_RDONLY | O_CLOEXEC);
    if (!strcmp(how, "openat"))
        return openat(AT_FDCWD, path, O_RDONLY);
    FILE *stream = fopen(path, "re");
    return stream ? fileno(stream) : -1;
}

/* look HOW PATH: close-on-exec, access mode, whether it can be written, position,
 * and the file's lines with | for their ends. HOW is open, openat or fopen */
static void look(struct line *l)
{
    errno = 0;
    int fd = opened(text(l, 1), text(l, 2));
    if (fd == -1)
        return fail(l);
    int on_exec = fcntl(fd, F_GETFD) & FD_CLOEXEC, mode = fcntl(fd, F_GETFL) & O_ACCMODE;
    int written = write(fd, "x", 1) == 1;
    static char bytes[ANSWER - 100];
    long place = lseek(fd, 0, SEEK_CUR);
    ssize_t length = 0, count;
    while ((count = read(fd, bytes + length, sizeof bytes - 1 - (size_t)length)) > 0)
        length += count;
    close(fd);
    bytes[length] = 0;
    for (char *end = bytes; (end = strchr(end, '\n'));)
        *end = '|';
    add(l, "= %d %d %d %ld %s", on_exec, mode, written, place, bytes);
}

const struct command listing[] = {
    {"at", 3, at}, {"goround", 3, go_round}, {"look", 2, look}, {NULL, 0, NULL},
};
