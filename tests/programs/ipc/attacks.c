/* What a process may try that can only read an attachment. Each command answers
 * how far it came; whether anybody else has noticed is for the test to find out. */
#include "ipc.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* address SLOT OFFSET: where that lies */
static void address(struct line *l) { succeed(l, (long)(uintptr_t)place(l)); }

/* raw_protect SLOT LENGTH: makes an attachment writable, past the library, which
 * would refuse it */
static void raw_protect(struct line *l)
{
    long result = -ENOSYS, length = number(l, 2);
    char *start = slots[number(l, 1) % SLOTS];
#ifdef __x86_64__
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(10L /* mprotect */), "D"(start), "S"(length),
                       "d"((long)(PROT_READ | PROT_WRITE))
                     : "rcx", "r11", "memory");
#endif
    errno = result < 0 ? (int)-result : 0;
    tell(l, result < 0 ? -1 : result);
}

/* mem_write SLOT OFFSET BYTE: through /proc/self/mem, which asks no page's leave */
static void mem_write(struct line *l)
{
    char byte = (char)number(l, 3);
    /* A change of user had made its own memory root's. */
    prctl(PR_SET_DUMPABLE, 1);
    int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (fd == -1)
        return fail(l);
    ssize_t written = pwrite(fd, &byte, 1, (off_t)(uintptr_t)place(l));
    tell(l, written);
    close(fd);
}

/* ptrace_write SLOT OFFSET WORD: into a forked child that lets itself be traced */
static void ptrace_write(struct line *l)
{
    prctl(PR_SET_DUMPABLE, 1);
    pid_t child = fork();
    if (child == -1)
        return fail(l);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* A debugger's access does not wait for a page. */
        (void)*(volatile long *)place(l);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    long poked = ptrace(PTRACE_POKEDATA, child, place(l), number(l, 3));
    int error = errno;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    errno = error;
    tell(l, poked);
}

/* Writes a byte into whatever is behind a path of /proc/self; whether that went. */
static int overwrite(const char *path, size_t length, char byte)
{
    int fd = open(path, O_RDWR | O_CLOEXEC), done = 0;
    if (fd == -1)
        return 0;
    done |= pwrite(fd, &byte, 1, 0) == 1;
    char *own = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (own != MAP_FAILED) {
        memset(own, byte, length);
        munmap(own, length);
        done = 1;
    }
    done |= ftruncate(fd, 0) == 0;
    close(fd);
    return done;
}

/* reopen_files SLOT LENGTH BYTE: opens the file behind the attachment, and every
 * memory file that this process has open, once more for writing; how many could
 * be written */
static void reopen_files(struct line *l)
{
    char *start = slots[number(l, 1) % SLOTS];
    size_t length = (size_t)number(l, 2);
    char path[300], target[300];
    long written = 0;
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (unsigned long)(uintptr_t)start,
             (unsigned long)(uintptr_t)(start + length));
    written += overwrite(path, length, (char)number(l, 3));
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *e; folder && (e = readdir(folder));) {
        snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        if (strstr(target, "memfd:"))
            written += overwrite(path, length, (char)number(l, 3));
    }
    if (folder)
        closedir(folder);
    succeed(l, written);
}

static void *fork_and_touch(void *page)
{
    for (;;) {
        pid_t child = fork();
        if (child == 0)
            _exit(*(volatile char *)page & 1);
        if (child > 0)
            waitpid(child, NULL, 0);
        /* Drops the page, and faults on it again. */
        madvise(page, (size_t)sysconf(_SC_PAGESIZE), MADV_DONTNEED);
        (void)*(volatile char *)page;
    }
    return NULL;
}

/* fork_storm SLOT OFFSET THREADS: from now on so many threads fork and touch the page,
 * without end */
static void fork_storm(struct line *l)
{
    pthread_t thread;
    for (long n = number(l, 3); n > 0; n--)
        if (pthread_create(&thread, NULL, fork_and_touch, place(l)) != 0)
            return fail(l);
    succeed(l, 0);
}

const struct command attacks[] = {
    {"address", 2, address},
    {"raw_protect", 2, raw_protect},
    {"mem_write", 3, mem_write},
    {"ptrace_write", 3, ptrace_write},
    {"reopen_files", 3, reopen_files},
    {"fork_storm", 3, fork_storm},
    {NULL, 0, NULL},
};
