/* The conductor: starts the actors and hands the baton round.
 *
 *   actors MODE [SLOT UID GID GROUPS ENVIRONMENT...]
 *   actors SLOT DESCRIPTOR       an actor's new image, after exec
 *
 * MODE is `kernel` or `library`. In the kernel an actor that sleeps in its call
 * waits; under the library it may as well be about to get its answer, so there
 * only the script's word and the deadline count. */
#include "actors.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { RUN, RESET };
enum { NOBODY = -1, DEADLINE = 10000 /* ms */, SILENCE = 20 /* ms */, VARIABLES = 8 };

struct identity {
    uid_t uid;
    gid_t gid;
    gid_t group; /* a supplementary one, or NOBODY */
    char *environment[VARIABLES];
    int variables;
};

struct actor {
    int pidfd, stat;
    int waits_at; /* the step in which it waits, or -1 */
};

static struct arena *arena;
static int memory, in_kernel, given;
static struct identity identities[SLOTS];
static struct actor actors[SLOTS];

static _Noreturn void die(const char *what)
{
    perror(what);
    _exit(1);
}

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits for the bell until `condition` holds; false if an actor that should go
 * on is seen to sleep in its call, or the deadline has passed. */
static int wait_until(int (*condition)(int), int argument, int (*sleeps)(int))
{
    long deadline = now() + DEADLINE;
    for (;;) {
        uint32_t bell = atomic_load(&arena->bell);
        if (condition(argument))
            return 1;
        if (now() > deadline)
            return 0;
        futex_wait(&arena->bell, bell, SILENCE);
        if (in_kernel && atomic_load(&arena->bell) == bell && sleeps && sleeps(argument))
            return condition(argument);
    }
}

static char state(int slot)
{
    char text[256], *after;
    ssize_t length = pread(actors[slot].stat, text, sizeof text - 1, 0);
    if (length <= 0)
        return 'X';
    text[length] = 0;
    after = strrchr(text, ')');
    return after ? after[2] : 'X';
}

static int sleeps_in_call(int slot)
{
    return atomic_load(&arena->channels[slot].entered) >= 0 && state(slot) == 'S';
}

static int has_ended(int step) { return atomic_load(&arena->results[step].ended); }
static int is_born(int slot) { return atomic_load(&arena->channels[slot].pid) != 0; }

static void watch(int slot)
{
    char path[64];
    pid_t pid = atomic_load(&arena->channels[slot].pid);
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    actors[slot].pidfd = pidfd_open(pid, 0);
    actors[slot].stat = open(path, O_RDONLY | O_CLOEXEC);
    actors[slot].waits_at = -1;
    if (actors[slot].pidfd < 0 || actors[slot].stat < 0)
        die("an actor ended at its birth");
}

static void become(const struct identity *who)
{
    if (geteuid() == 0 && who->uid != 0) {
        gid_t groups[] = {who->group};
        size_t count = who->group != (gid_t)NOBODY;
        if (setgroups(count, groups) || setresgid(who->gid, who->gid, who->gid) ||
            setresuid(who->uid, who->uid, who->uid))
            die("cannot become another user");
    }
}

static void on_signal(int number) { (void)number; }

static void spawn(int slot)
{
    struct channel *channel = &arena->channels[slot];
    const struct identity *who = &identities[slot];
    atomic_store(&channel->pid, 0);
    atomic_store(&channel->entered, -1);
    channel->taken = atomic_load(&channel->order);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        close(STDIN_FILENO);
        close(STDOUT_FILENO);
        become(who);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* setresuid has cleared it */
        for (int i = 0; i < who->variables; i++)
            putenv(who->environment[i]);
        atomic_store(&channel->pid, getpid());
        if (who->variables) {
            char number[12], descriptor[12];
            snprintf(number, sizeof number, "%d", slot);
            snprintf(descriptor, sizeof descriptor, "%d", memory);
            execl("/proc/self/exe", "actors", number, descriptor, (char *)NULL);
            die("exec");
        }
        ring(arena);
        act(arena, slot, memory);
    }
    if (!wait_until(is_born, slot, NULL))
        die("an actor was not born");
    watch(slot);
}

/* Waits for its end, by its own doing or ours. */
static int bury(int slot)
{
    struct pollfd end = {.fd = actors[slot].pidfd, .events = POLLIN};
    int ended = poll(&end, 1, DEADLINE) == 1;
    close(actors[slot].pidfd);
    close(actors[slot].stat);
    actors[slot].waits_at = -1;
    return ended;
}

static int kill_actor(int slot)
{
    syscall(SYS_pidfd_send_signal, actors[slot].pidfd, SIGKILL, NULL, 0);
    return bury(slot);
}

static void hand_over(int slot, int first, int end)
{
    struct channel *channel = &arena->channels[slot];
    channel->first = first;
    channel->end = end;
    atomic_fetch_add(&channel->order, 1);
    futex_wake(&channel->order);
}

/* Waits until the actor is seen to wait in its call; false if it has returned. */
static int until_it_waits(int slot, int step)
{
    long deadline = now() + DEADLINE;
    while (!has_ended(step) && now() < deadline) {
        if (atomic_load(&arena->channels[slot].entered) == step && state(slot) == 'S')
            return !has_ended(step);
        sched_yield();
    }
    return 0;
}

static int sleeps_at(int step) { return sleeps_in_call(arena->steps[step].slot); }

/* A step's consequences: who should be awake is, who should wait does. */
static int settle(int step)
{
    const struct step *this = &arena->steps[step];
    for (int slot = 0; slot < SLOTS; slot++) {
        int at = actors[slot].waits_at;
        if (at < 0 || at == step)
            continue;
        if (this->wakes >> slot & 1) {
            if (!wait_until(has_ended, at, sleeps_at))
                return 0;
            actors[slot].waits_at = -1;
        } else if (in_kernel ? !until_it_waits(slot, at) : has_ended(at)) {
            return 0;
        }
    }
    return 1;
}

static void finish(int step, int64_t value)
{
    arena->results[step].value = value;
    atomic_store(&arena->results[step].ended, 1);
}

/* A step that concerns processes; false if it did not end as it must. */
static int process_step(int step)
{
    const struct step *this = &arena->steps[step];
    int slot = this->slot, child = (int)this->args[0];
    switch (this->verb) {
    case SIGNAL:
        syscall(SYS_pidfd_send_signal, actors[slot].pidfd, SIGUSR1, NULL, 0);
        finish(step, 0);
        return 1;
    case KILL:
    case EXIT:
        if (this->verb == EXIT)
            hand_over(slot, step, step + 1);
        if (!(this->verb == EXIT ? bury(slot) : kill_actor(slot)))
            return 0;
        if (this->args[0]) /* and is born again */
            spawn(slot);
        finish(step, this->args[0] ? atomic_load(&arena->channels[slot].pid) : 0);
        return 1;
    case EXEC:
        atomic_store(&arena->channels[slot].pid, 0);
        hand_over(slot, step, step + 1);
        if (!wait_until(is_born, slot, NULL))
            return 0;
        finish(step, atomic_load(&arena->channels[slot].pid));
        return 1;
    case FORK:
        atomic_store(&arena->channels[child].pid, 0);
        atomic_store(&arena->channels[child].entered, -1);
        hand_over(slot, step, step + 1);
        if (!wait_until(has_ended, step, NULL) || !wait_until(is_born, child, NULL))
            return 0;
        watch(child);
        return 1;
    default:
        return 0;
    }
}

static int concerns_processes(const struct step *step)
{
    return step->verb >= SIGNAL;
}

static int ends_run(const struct step *step)
{
    return step->waits != RETURNS || step->wakes || step->settles;
}

/* Does the steps from `first` up to `end`; the first that did not go as the
 * script says, or `end`. */
static int play(int first, int end)
{
    for (int at = first, next; at < end; at = next) {
        const struct step *step = &arena->steps[at];
        next = at + 1;
        if (concerns_processes(step)) {
            if (!process_step(at) || !settle(at))
                return at;
            continue;
        }
        while (!ends_run(&arena->steps[next - 1]) && next < end &&
               arena->steps[next].slot == step->slot && !concerns_processes(&arena->steps[next]))
            next++;
        hand_over(step->slot, at, next);
        int last = next - 1, waits = arena->steps[last].waits;
        if (waits == WAITS) {
            actors[step->slot].waits_at = last;
            if (last > at && !wait_until(has_ended, last - 1, sleeps_at))
                return last - 1;
            if (!until_it_waits(step->slot, last))
                return last;
        } else if (!wait_until(has_ended, last, waits == TIMES_OUT ? NULL : sleeps_at)) {
            return at;
        }
        if (!settle(last))
            return last;
    }
    return end;
}

static int read_all(void *into, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = read(STDIN_FILENO, (char *)into + done, size - done);
        if (got <= 0)
            return 0;
        done += (size_t)got;
    }
    return 1;
}

static void write_all(const void *from, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t put = write(STDOUT_FILENO, (const char *)from + done, size - done);
        if (put <= 0)
            die("cannot write");
        done += (size_t)put;
    }
}

static void kill_all(void)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (actors[slot].pidfd >= 0 && atomic_load(&arena->channels[slot].pid))
            kill_actor(slot);
}

/* Commands: {RUN, first, count} and the steps; {RESET}. */
static void serve(void)
{
    int32_t command[3];
    while (read_all(command, sizeof command)) {
        if (command[0] == RESET) {
            kill_all();
            for (int slot = 0; slot < SLOTS; slot++)
                spawn(slot);
            for (int slot = 0; slot < SLOTS; slot++) {
                int32_t pid = atomic_load(&arena->channels[slot].pid);
                write_all(&pid, sizeof pid);
            }
            continue;
        }
        int first = command[1], end = first + command[2];
        if (first < 0 || command[2] < 0 || end > STEPS)
            die("too many steps");
        memset((void *)(arena->results + first), 0, sizeof *arena->results * (size_t)command[2]);
        if (!read_all(arena->steps + first, sizeof *arena->steps * (size_t)command[2]))
            return;
        int32_t reached = play(first, end);
        write_all(&reached, sizeof reached);
        write_all((void *)arena->results, sizeof *arena->results * (size_t)end);
    }
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

static void map_arena(void)
{
    arena = mmap(NULL, sizeof *arena, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (arena == MAP_FAILED)
        die("mmap");
}

/* SLOT UID GID GROUP, then VARIABLE=VALUE until the next slot */
static void read_identities(char **words)
{
    for (int slot = 0; *words && slot < SLOTS; slot++) {
        struct identity *who = &identities[slot];
        who->uid = (uid_t)atol(*words++);
        who->gid = *words ? (gid_t)atol(*words++) : 0;
        who->group = *words ? (gid_t)atol(*words++) : (gid_t)NOBODY;
        while (*words && strchr(*words, '=') && who->variables < VARIABLES)
            who->environment[who->variables++] = *words++;
        given = slot + 1;
    }
}

int main(int count, char **words)
{
    catch_signals();
    if (count == 3 && words[1][0] >= '0' && words[1][0] <= '9') {
        int slot = atoi(words[1]);
        memory = atoi(words[2]);
        map_arena();
        atomic_store(&arena->channels[slot].pid, getpid());
        atomic_store(&arena->channels[slot].entered, -1);
        ring(arena);
        act(arena, slot, memory);
    }
    if (count < 2)
        return 2;
    in_kernel = strcmp(words[1], "kernel") == 0;
    read_identities(words + 2);
    if (given != SLOTS)
        return 2;
    memory = memfd_create("arena", 0);
    if (memory < 0 || ftruncate(memory, sizeof *arena))
        die("memfd");
    map_arena();
    for (int slot = 0; slot < SLOTS; slot++)
        actors[slot].pidfd = -1;
    serve();
    kill_all();
    return 0;
}
