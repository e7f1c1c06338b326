/* scarcity: a library that is preloaded into a daemon and lets the kernel seem to
 * be out of something: threads, files, memory. What cannot be provoked without
 * harming the machine, or only as root, or only for all processes of a user at
 * once, is so provoked in one process, at a chosen moment, by a test of any user.
 *
 * The test and the library share the file that SCARCITY names: a row for each kind
 * of call (the order is `Scarce` in tests/src/scarcity.rs). */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

/* What becomes of the calls of one kind. */
struct row {
    _Atomic int32_t errnum; /* what they fail with; 0: they do not */
    _Atomic int32_t failed; /* how many have */
};

enum kind { THREAD, BIRTH_THREAD, ACCEPT, PAGE, MAP_PAGE, MEMFD, KINDS };

static struct row none[KINDS];
static struct row *rows = none;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SCARCITY");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared != MAP_FAILED)
        rows = shared;
}

static int is_scarce(enum kind kind)
{
    int errnum = atomic_load(&rows[kind].errnum);
    if (errnum)
        atomic_fetch_add(&rows[kind].failed, 1);
    return errnum;
}

/* Fails with what is scarce, or goes on. */
#define FAIL_IF(kind)                   \
    do {                                \
        int errnum_ = is_scarce(kind);  \
        if (errnum_) {                  \
            errno = errnum_;            \
            return -1;                  \
        }                               \
    } while (0)

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    /* Only a thread that reads the faults of a process makes one for its child. */
    char maker[16] = "";
    prctl(PR_GET_NAME, maker);
    int errnum = is_scarce(THREAD);
    if (!errnum && strncmp(maker, "faults-", 7) == 0)
        errnum = is_scarce(BIRTH_THREAD);
    return errnum ? errnum : REAL(pthread_create)(thread, attributes, run, argument);
}

/* As in the kernel, one that waits already has its descriptor and its file. */
int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    FAIL_IF(ACCEPT);
    return REAL(accept4)(fd, address, len, flags);
}

/* UFFDIO_COPY and UFFDIO_CONTINUE fill and map a page, ioctl_userfaultfd(2). All such
 * requests are of type 0xAA. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if ((request & 0xff00) == 0xaa00) {
        switch (request & 0xff) {
        case 3:
            FAIL_IF(PAGE);
            break;
        case 7:
            FAIL_IF(MAP_PAGE);
            break;
        }
    }
    return REAL(ioctl)(fd, request, argument);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    FAIL_IF(PAGE);
    return REAL(pwrite)(fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset)
{
    FAIL_IF(PAGE);
    return REAL(pwrite64)(fd, bytes, count, offset);
}

int memfd_create(const char *name, unsigned flags)
{
    FAIL_IF(MEMFD);
    return REAL(memfd_create)(name, flags);
}
