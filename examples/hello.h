/* What the two halves of hello have in common.
 *
 *   greeter                                  answerer
 *     sends type 1          ── queue ──────▶   receives type 1
 *     receives type 2       ◀─ queue ───────   sends type 2
 *     text := "Memory…"
 *     turns += 2            ── semaphore ──▶   turns -= 1 (waits for it)
 *                              shared memory   reads text
 *                           ◀─ shared memory   text := "Here too…"
 *     waits for turns == 0  ◀─ semaphore ───   turns -= 1
 *     reads text
 *     removes all three
 *
 * Both halves create what is not there yet, so either may be started first.
 * New memory and new semaphores are 0: nobody has to initialise anything. (And
 * a language that sets new semaphores to 0 by itself, such as Python, has done
 * so on both sides by the time that the first message is answered.)
 *
 * hello.pl and hello.py speak the same protocol. */
#ifndef EXAMPLES_HELLO_H
#define EXAMPLES_HELLO_H

#include "dipc.h"

#define HELLO_KEY 0x68656c6c /* "hell"; keys of the three mechanisms do not clash */
#define TEXT_SIZE 128        /* the segment holds one string, and so does a message */
#define FROM_GREETER 1       /* message types */
#define FROM_ANSWERER 2

struct message {
    long type;
    char text[TEXT_SIZE];
};

#endif
