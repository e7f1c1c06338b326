/* Commands on objects of any kind: what IPC_STAT says, field by field, what
 * IPC_SET changes, the system's tables, and calls with the arguments that a
 * careful program would not give. KIND is sem, msg or shm. A POINTER is a
 * number, or "buffer" for memory of ours. */
#include "ipc.h"

#include <stddef.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>

static _Alignas(long) char buffer[1 << 16];

static void *pointer(const struct line *l, int word)
{
    if (strcmp(text(l, word), "buffer") == 0)
        return buffer;
    return (void *)number(l, word);
}

static int control(const char *kind, int id, int num, int command, void *argument)
{
    if (strcmp(kind, "sem") == 0)
        return semctl(id, num, command, (union semun){.buf = argument});
    if (strcmp(kind, "msg") == 0)
        return msgctl(id, command, argument);
    return shmctl(id, command, argument);
}

/* control KIND ID NUM COMMAND POINTER: the result */
static void any_control(struct line *l)
{
    tell(l, control(text(l, 1), (int)number(l, 2), (int)number(l, 3), (int)number(l, 4),
                    pointer(l, 5)));
}

struct field {
    const char *kind, *name;
    size_t offset, size;
};

#define FIELD(kind, type, name, member) \
    {kind, name, offsetof(struct type, member), sizeof((struct type *)0)->member}
#define PERMISSIONS(kind, type, perm) \
    FIELD(kind, type, "mode", perm.mode), FIELD(kind, type, "key", perm.__key), \
        FIELD(kind, type, "uid", perm.uid), FIELD(kind, type, "gid", perm.gid), \
        FIELD(kind, type, "cuid", perm.cuid), FIELD(kind, type, "cgid", perm.cgid)

static const struct field fields[] = {
    PERMISSIONS("sem", semid_ds, sem_perm),
    FIELD("sem", semid_ds, "nsems", sem_nsems),
    FIELD("sem", semid_ds, "otime", sem_otime),
    FIELD("sem", semid_ds, "ctime", sem_ctime),
    FIELD("sem", semid_ds, "otime_high", __sem_otime_high),
    FIELD("sem", semid_ds, "ctime_high", __sem_ctime_high),
    PERMISSIONS("msg", msqid_ds, msg_perm),
    FIELD("msg", msqid_ds, "qnum", msg_qnum),
    FIELD("msg", msqid_ds, "cbytes", __msg_cbytes),
    FIELD("msg", msqid_ds, "qbytes", msg_qbytes),
    FIELD("msg", msqid_ds, "lspid", msg_lspid),
    FIELD("msg", msqid_ds, "lrpid", msg_lrpid),
    FIELD("msg", msqid_ds, "stime", msg_stime),
    FIELD("msg", msqid_ds, "rtime", msg_rtime),
    FIELD("msg", msqid_ds, "ctime", msg_ctime),
    PERMISSIONS("shm", shmid_ds, shm_perm),
    FIELD("shm", shmid_ds, "segsz", shm_segsz),
    FIELD("shm", shmid_ds, "nattch", shm_nattch),
    FIELD("shm", shmid_ds, "cpid", shm_cpid),
    FIELD("shm", shmid_ds, "lpid", shm_lpid),
    FIELD("shm", shmid_ds, "atime", shm_atime),
    FIELD("shm", shmid_ds, "dtime", shm_dtime),
    FIELD("shm", shmid_ds, "ctime", shm_ctime),
};

/* Whether the kind's structure has such a field, and its value. */
static int field_of(const char *kind, const char *name, const char *ds, long *value)
{
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
        const struct field *field = &fields[f];
        if (strcmp(field->kind, kind) || strcmp(field->name, name))
            continue;
        const char *bytes = ds + field->offset;
        if (field->size == sizeof(long))
            *value = *(const long *)bytes;
        else if (field->size == sizeof(int))
            *value = *(const int *)bytes;
        else
            *value = *(const unsigned short *)bytes;
        return 1;
    }
    return 0;
}

/* stat KIND ID FIELD...: what IPC_STAT says */
static void stat_fields(struct line *l)
{
    long value;
    memset(buffer, 0xff, sizeof(struct shmid_ds));
    if (control(text(l, 1), (int)number(l, 2), 0, IPC_STAT, buffer) == -1)
        return fail(l);
    for (int w = 3; w < l->count; w++) {
        if (!field_of(text(l, 1), text(l, w), buffer, &value)) {
            l->answer[0] = 0;
            return add(l, "? no such field");
        }
        add(l, w == 3 ? "= %ld" : " %ld", value);
    }
}

/* stat_index KIND COMMAND INDEX: the id that SEM_STAT and its like return */
static void stat_index(struct line *l)
{
    tell(l, control(text(l, 1), (int)number(l, 3), 0, (int)number(l, 2), buffer));
}

/* set KIND ID UID GID MODE [QBYTES]: IPC_SET */
static void set(struct line *l)
{
    uid_t uid = (uid_t)number(l, 3);
    gid_t gid = (gid_t)number(l, 4);
    unsigned short mode = (unsigned short)number(l, 5);
    struct semid_ds sem = {.sem_perm = {.uid = uid, .gid = gid, .mode = mode}};
    struct shmid_ds shm = {.shm_perm = {.uid = uid, .gid = gid, .mode = mode}};
    struct msqid_ds msg = {.msg_perm = {.uid = uid, .gid = gid, .mode = mode},
                           .msg_qbytes = l->count > 6 ? (msglen_t)number(l, 6) : 16384};
    const char *kind = text(l, 1);
    void *ds = !strcmp(kind, "sem") ? (void *)&sem : !strcmp(kind, "msg") ? (void *)&msg : &shm;
    tell(l, control(kind, (int)number(l, 2), 0, IPC_SET, ds));
}

/* Structures of the system-wide tables, as rows of numbers. */
static void tell_ints(struct line *l, int result, const int *values, int count)
{
    add(l, "= %d", result);
    for (int i = 0; i < count; i++)
        add(l, " %d", values[i]);
}

/* totals KIND COMMAND ID: the result of xxx_INFO, and the structure's fields in their order */
static void totals(struct line *l)
{
    const char *kind = text(l, 1);
    int command = (int)number(l, 2);
    memset(buffer, 0, 256);
    int result = control(kind, (int)number(l, 3), 0, command, buffer);
    if (result == -1)
        return fail(l);
    if (strcmp(kind, "sem") == 0)
        return tell_ints(l, result, (int *)buffer, 10);
    if (strcmp(kind, "msg") == 0)
        return tell_ints(l, result, (int *)buffer, 7);
    if (command == IPC_INFO) {
        const struct shminfo *limits = (void *)buffer;
        return add(l, "= %d %ld %ld %ld %ld", result, (long)limits->shmmax, (long)limits->shmmin,
                   (long)limits->shmmni, (long)limits->shmseg);
    }
    const struct shm_info *used = (void *)buffer;
    add(l, "= %d %d %lu %lu", result, used->used_ids, used->shm_tot, used->shm_rss);
}

/* listed KIND ID COLUMN: a number in the line of /proc/sysvipc/KIND with this
 * id, or -1 if there is none; COLUMN counts from 0, and the id is 1 */
static void listed(struct line *l)
{
    char path[32], row[512];
    snprintf(path, sizeof path, "/proc/sysvipc/%s", text(l, 1));
    FILE *table = fopen(path, "r");
    if (!table)
        return fail(l);
    long found = -1;
    while (fgets(row, sizeof row, table)) {
        long columns[3] = {0, -1, 0}, value;
        int offset = 0, used;
        long wanted = 0;
        for (int column = 0; sscanf(row + offset, column == 2 ? "%lo%n" : "%ld%n", &value, &used) == 1;
             column++, offset += used) {
            if (column < 3)
                columns[column] = value;
            if (column == number(l, 3))
                wanted = value;
        }
        if (columns[1] == number(l, 2))
            found = wanted;
    }
    fclose(table);
    succeed(l, found);
}

/* raw_semop ID POINTER COUNT */
static void raw_semop(struct line *l)
{
    tell(l, semop((int)number(l, 1), pointer(l, 2), (size_t)number(l, 3)));
}

/* raw_semtimedop ID TIMEOUT-POINTER: one operation, +1 on semaphore 0 */
static void raw_semtimedop(struct line *l)
{
    struct sembuf op = {0, 1, 0};
    tell(l, semtimedop((int)number(l, 1), &op, 1, pointer(l, 2)));
}

/* semtimeout ID SECONDS NANOSECONDS NUM OP: and the timeout afterwards */
static void semtimeout(struct line *l)
{
    struct timespec timeout = {number(l, 2), number(l, 3)};
    struct sembuf op = {(unsigned short)number(l, 4), (short)number(l, 5), 0};
    int result = semtimedop((int)number(l, 1), &op, 1, &timeout);
    tell(l, result);
    add(l, " %ld %ld", (long)timeout.tv_sec, timeout.tv_nsec);
}

/* raw_msgsnd ID POINTER SIZE FLAGS */
static void raw_msgsnd(struct line *l)
{
    tell(l, msgsnd((int)number(l, 1), pointer(l, 2), (size_t)number(l, 3), (int)number(l, 4)));
}

/* msgsnd_sized ID TYPE SIZE FLAGS: so many bytes, of no meaning */
static void msgsnd_sized(struct line *l)
{
    *(long *)buffer = number(l, 2);
    tell(l, msgsnd((int)number(l, 1), buffer, (size_t)number(l, 3), (int)number(l, 4)));
}

/* raw_msgrcv ID POINTER SIZE TYPE FLAGS */
static void raw_msgrcv(struct line *l)
{
    tell(l, msgrcv((int)number(l, 1), pointer(l, 2), (size_t)number(l, 3), number(l, 4),
                   (int)number(l, 5)));
}

/* short_semctl ID NUM COMMAND: without the fourth argument */
static void short_semctl(struct line *l)
{
    tell(l, semctl((int)number(l, 1), (int)number(l, 2), (int)number(l, 3)));
}

/* now: this clock's second */
static void now(struct line *l) { succeed(l, time(NULL)); }

/* write_text PATH WORD... */
static void write_text(struct line *l)
{
    FILE *file = fopen(text(l, 1), "w");
    if (!file)
        return fail(l);
    for (int w = 2; w < l->count; w++)
        fprintf(file, "%s ", l->word[w]);
    tell(l, fclose(file));
}

const struct command controls[] = {
    {"control", 5, any_control},
    {"stat", 3, stat_fields},
    {"stat_index", 3, stat_index},
    {"set", 5, set},
    {"totals", 3, totals},
    {"listed", 3, listed},
    {"raw_semop", 3, raw_semop},
    {"raw_semtimedop", 2, raw_semtimedop},
    {"semtimeout", 5, semtimeout},
    {"raw_msgsnd", 4, raw_msgsnd},
    {"msgsnd_sized", 4, msgsnd_sized},
    {"raw_msgrcv", 5, raw_msgrcv},
    {"short_semctl", 3, short_semctl},
    {"now", 0, now},
    {"write_text", 2, write_text},
    {NULL, 0, NULL},
};
