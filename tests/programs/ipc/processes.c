/* Commands on processes, threads and signals. */
#include "ipc.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN 16

/* A forked child is driven through its parent: "child 0 COMMAND" runs COMMAND
 * in child 0. */
static struct child {
    pid_t pid;
    FILE *in, *out;
} children[CHILDREN];

static void serve(int fd)
{
    static char line[ANSWER], answer[ANSWER];
    FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    memset(children, 0, sizeof children);
    while (in && out && fgets(line, sizeof line, in)) {
        perform(line, answer);
        fprintf(out, "%s\n", answer);
        fflush(out);
    }
    _exit(0);
}

void drive_child(struct line *l, pid_t (*make)(const struct line *))
{
    int ends[2], number = 0;
    while (number < CHILDREN - 1 && children[number].pid)
        number++;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == -1)
        return fail(l);
    pid_t pid = make(l);
    if (pid == -1)
        return fail(l);
    if (pid == 0) {
        close(ends[1]);
        serve(ends[0]);
    }
    close(ends[0]);
    children[number] = (struct child){pid, fdopen(ends[1], "r"), fdopen(dup(ends[1]), "w")};
    add(l, "= %d %d", number, pid);
}

/* Forks by libc's fork, or by the system call whose number is given. */
static pid_t fork_as_told(const struct line *l)
{
    long call = number(l, 1);
    return call ? (pid_t)syscall(call, call == SYS_clone ? SIGCHLD : 0, 0, 0, 0, 0) : fork();
}

/* fork [SYSTEM-CALL]: number of the child, and its pid */
static void fork_child(struct line *l) { drive_child(l, fork_as_told); }

static struct child *child(const struct line *l) { return &children[number(l, 1) % CHILDREN]; }

/* send CHILD COMMAND: without waiting for the answer */
static void send_child(struct line *l)
{
    struct child *c = child(l);
    if (!c->out)
        return add(l, "? no such child");
    for (int w = 2; w < l->count; w++)
        fprintf(c->out, "%s%c", l->word[w], w + 1 < l->count ? ' ' : '\n');
    fflush(c->out);
    succeed(l, 0);
}

/* receive CHILD: the answer to what was sent */
static void receive_child(struct line *l)
{
    struct child *c = child(l);
    if (!c->in || !fgets(l->answer, ANSWER, c->in))
        return add(l, "? the child has ended");
    l->answer[strcspn(l->answer, "\n")] = 0;
}

/* child CHILD COMMAND */
static void ask_child(struct line *l)
{
    send_child(l);
    if (l->answer[0] == '=') {
        l->answer[0] = 0;
        receive_child(l);
    }
}

/* reap CHILD: waits for its end; its wait status */
static void reap(struct line *l)
{
    struct child *c = child(l);
    int status;
    if (!c->pid || waitpid(c->pid, &status, 0) == -1)
        return fail(l);
    fclose(c->in);
    fclose(c->out);
    *c = (struct child){0};
    succeed(l, status);
}

/* daemonize: goes on in a child, as daemon(3) does */
static void daemonize(struct line *l)
{
    pid_t pid = fork();
    if (pid == -1)
        return fail(l);
    if (pid > 0)
        _exit(0);
    succeed(l, 0);
}

/* exec: this program anew, in the same process */
static void exec_anew(struct line *l)
{
    char *words[] = {"ipc", NULL};
    execv("/proc/self/exe", words);
    fail(l);
}

/* exit */
static void leave(struct line *l)
{
    (void)l;
    exit(0);
}

static _Atomic int caught;
static void handler(int signal)
{
    (void)signal;
    caught++;
}

/* handle SIGNAL FLAGS: a handler that counts */
static void handle(struct line *l)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = (int)number(l, 2)};
    tell(l, sigaction((int)number(l, 1), &action, NULL));
}

/* caught: how many signals the handler had */
static void count_caught(struct line *l) { succeed(l, caught); }

/* ignore SIGNAL */
static void ignore(struct line *l)
{
    tell(l, signal((int)number(l, 1), SIG_IGN) == SIG_ERR ? -1 : 0);
}

/* A command in a thread of its own. */
static struct {
    pthread_t thread;
    char line[1024], answer[ANSWER];
} other;

static void *in_thread(void *nothing)
{
    perform(other.line, other.answer);
    return nothing;
}

/* thread COMMAND */
static void start_thread(struct line *l)
{
    command_from(l, 1, other.line, sizeof other.line);
    errno = pthread_create(&other.thread, NULL, in_thread, NULL);
    tell(l, errno ? -1 : 0);
}

/* join: the thread's answer */
static void join(struct line *l)
{
    pthread_join(other.thread, NULL);
    add(l, "%s", other.answer);
}

/* kill PID SIGNAL */
static void send_signal(struct line *l) { tell(l, kill((pid_t)number(l, 1), (int)number(l, 2))); }

/* closeall: every descriptor but the standard ones */
static void close_all(struct line *l) { tell(l, close_range(3, ~0U, 0)); }

const struct command processes[] = {
    {"daemonize", 0, daemonize},
    {"fork", 0, fork_child},  {"send", 2, send_child}, {"receive", 1, receive_child},
    {"child", 2, ask_child},  {"reap", 1, reap},       {"exec", 0, exec_anew},
    {"exit", 0, leave},       {"handle", 2, handle},   {"caught", 0, count_caught},
    {"ignore", 1, ignore},    {"thread", 1, start_thread}, {"join", 0, join},
    {"kill", 2, send_signal}, {"closeall", 0, close_all},
    {NULL, 0, NULL},
};
