/* The loop of ipc.h, and what all commands share. */
#include "ipc.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <unistd.h>

void add(struct line *line, const char *format, ...)
{
    size_t length = strlen(line->answer);
    va_list values;
    va_start(values, format);
    vsnprintf(line->answer + length, ANSWER - length, format, values);
    va_end(values);
}

void succeed(struct line *line, long value) { add(line, "= %ld", value); }

void fail(struct line *line)
{
    const char *name = strerrorname_np(errno);
    add(line, "! %s", name ? name : "E?");
}

void tell(struct line *line, long result)
{
    if (result == -1)
        fail(line);
    else
        succeed(line, result);
}

long number(const struct line *line, int word)
{
    return word < line->count ? strtol(line->word[word], NULL, 0) : 0;
}

const char *text(const struct line *line, int word)
{
    return word < line->count ? line->word[word] : "";
}

void command_from(const struct line *line, int word, char *to, size_t room)
{
    to[0] = 0;
    for (; word < line->count; word++) {
        strncat(to, line->word[word], room - strlen(to) - 2);
        strcat(to, " ");
    }
}

void perform(char *words, char *answer)
{
    struct line line = {.answer = answer};
    char *rest;
    answer[0] = 0;
    for (char *w = strtok_r(words, " \n", &rest); w && line.count < WORDS;
         w = strtok_r(NULL, " \n", &rest))
        line.word[line.count++] = w;
    const struct command *tables[] = {semaphores, queues, memory, mappings, processes, births,
                                      churning, places, controls, listing, many_objects,
                                      swarms, traps, identities, litmus_tests, attacks};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct command *c = tables[t]; c->name; c++)
            if (strcmp(c->name, text(&line, 0)) == 0) {
                if (line.count <= c->least)
                    add(&line, "? %s needs %d arguments", c->name, c->least);
                else
                    c->run(&line);
                return;
            }
    add(&line, "? %s", text(&line, 0));
}

/* Unbuffered, so that a program started by exec finds the next command. */
static int read_line(char *line, size_t room)
{
    for (size_t n = 0; n + 1 < room;) {
        ssize_t got = read(STDIN_FILENO, line + n, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        if (line[n++] == '\n') {
            line[n] = 0;
            return 1;
        }
    }
    return 0;
}

int main(void)
{
    static char line[ANSWER], answer[ANSWER];
    /* Whoever drives us may be killed: nothing of ours outlives it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setvbuf(stdout, NULL, _IOLBF, ANSWER);
    catch_faults();
    printf("= %d\n", getpid());
    while (read_line(line, sizeof line)) {
        perform(line, answer);
        printf("%s\n", answer);
    }
    return 0;
}
