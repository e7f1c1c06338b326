/* A picture drawn by a cluster.
 *
 *   mandelbrot master OUT.png [WIDTH HEIGHT]    deals the work, writes the picture
 *   mandelbrot worker                           draws; as many as you like, anywhere
 *
 *   cc -O2 -o mandelbrot mandelbrot.c
 *   for n in 1 2 3; do dipc exec -n $n -- ./mandelbrot worker & done
 *   dipc exec -n 1 -- ./mandelbrot master out.png
 *
 *   queue      the master sends one message a tile; who is free takes the next
 *   segment    the picture; each tile has a page of its own, so that no two
 *              nodes ever write the same page
 *   semaphore  counts finished tiles; the master sleeps on it
 *
 * In the picture each tile's border has the colour of the node that drew it. */
#define _GNU_SOURCE /* semtimedop */
#include "dipc.h"
#include "png.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>

#define PICTURE_KEY 0x6d616e64 /* "mand" */
#define TILE 32                /* pixels along a tile's side */
#define PAGE 4096
#define MAX_ITERATIONS 3000
#define MAX_NODES 256

struct tile {
    unsigned char pixels[TILE][TILE][3];
    int node;           /* who drew it */
    atomic_int is_done; /* 0 until the pixels are all there */
    char rest_of_page[PAGE - 3 * TILE * TILE - 2 * sizeof(int)];
};

struct picture {
    int width, height; /* in pixels */
    char rest_of_page[PAGE - 2 * sizeof(int)];
    struct tile tiles[];
};

struct work {
    long type; /* always 1 */
    int tile;
};

static struct picture *picture;
static int queue, done;

static int columns(void) { return (picture->width + TILE - 1) / TILE; }

static void attach(int segment)
{
    picture = shmat(segment, NULL, 0);
    if (picture == (void *)-1) {
        perror("shmat");
        exit(1);
    }
}

/* --- worker ------------------------------------------------------------- */

/* A colour for a point that escapes after `n` steps: from deep blue over white
 * to amber, round and round. */
static void escape_colour(int n, unsigned char rgb[3])
{
    static const unsigned char stops[5][3] = {
        {8, 16, 92}, {48, 130, 214}, {240, 250, 255}, {255, 176, 16}, {96, 24, 8}};
    int phase = n * 6 % (5 * 64), stop = phase / 64, part = phase % 64;
    for (int c = 0; c < 3; c++)
        rgb[c] = (stops[stop][c] * (64 - part) + stops[(stop + 1) % 5][c] * part) / 64;
}

/* A colour for a point that never escapes: a violet glow where its orbit comes
 * close to 0, black where it keeps away. */
static void interior_colour(double closest, unsigned char rgb[3])
{
    double glow = 1 / (1 + 12 * closest);
    rgb[0] = 110 * glow;
    rgb[1] = 24 * glow;
    rgb[2] = 150 * glow;
}

/* z := z² + c, until it escapes or we give up. */
static void draw_pixel(double cx, double cy, unsigned char rgb[3])
{
    double x = 0, y = 0, closest = 4;
    for (int n = 0; n < MAX_ITERATIONS; n++) {
        double xx = x * x, yy = y * y;
        if (xx + yy > 4) {
            escape_colour(n, rgb);
            return;
        }
        if (n > 0 && xx + yy < closest)
            closest = xx + yy;
        y = 2 * x * y + cy;
        x = xx - yy + cx;
    }
    interior_colour(closest, rgb);
}

static void draw_tile(int number)
{
    struct tile *tile = &picture->tiles[number];
    int left = number % columns() * TILE, top = number / columns() * TILE;
    double scale = 3.2 / picture->width; /* the set from -2.2 to 1.0 */
    for (int y = 0; y < TILE; y++)
        for (int x = 0; x < TILE; x++)
            draw_pixel(-2.2 + (left + x) * scale, (top + y - picture->height / 2.0) * scale,
                       tile->pixels[y][x]);
    tile->node = this_node();
    /* A tile may be dealt twice (see the master) but counts once. */
    if (atomic_exchange(&tile->is_done, 1) == 0) {
        struct sembuf one_more = {.sem_op = +1};
        must(semop(done, &one_more, 1), "semop");
    }
}

static int worker(void)
{
    /* A worker that comes before the master makes the queue and waits in it. */
    queue = must(msgget(PICTURE_KEY, IPC_CREAT | 0600 | IPC_DIPC), "msgget");
    struct work work;
    while (msgrcv(queue, &work, sizeof work.tile, 1, 0) != -1) {
        if (picture == NULL) { /* there is work, so there is a picture */
            done = must(semget(PICTURE_KEY, 1, IPC_DIPC), "semget");
            attach(must(shmget(PICTURE_KEY, 0, IPC_DIPC), "shmget"));
        }
        draw_tile(work.tile);
    }
    /* The master has removed the queue, while we waited or while we drew. */
    if (errno == EIDRM || errno == EINVAL)
        return 0;
    perror("msgrcv");
    return 1;
}

/* --- master ------------------------------------------------------------- */

static void deal(int tile)
{
    struct work work = {.type = 1, .tile = tile};
    must(msgsnd(queue, &work, sizeof work.tile, 0), "msgsnd");
}

static int count_done(int tiles)
{
    int count = 0;
    for (int i = 0; i < tiles; i++)
        count += atomic_load(&picture->tiles[i].is_done);
    return count;
}

/* Nothing happened for long. If all tiles are taken, some worker died with one
 * or is very slow: deals again what is not done. */
static void deal_again(int tiles)
{
    struct msqid_ds state;
    must(msgctl(queue, IPC_STAT, &state), "msgctl");
    for (int i = 0; i < tiles && state.msg_qnum == 0; i++)
        if (!atomic_load(&picture->tiles[i].is_done))
            deal(i);
}

/* One line that changes for a person, ten lines for a file. */
static void show_progress(int finished, int tiles)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%d of %d tiles%s", finished, tiles, finished == tiles ? "\n" : "");
    else if (finished * 10 / tiles != (finished - 1) * 10 / tiles)
        fprintf(stderr, "%d of %d tiles\n", finished, tiles);
}

/* The semaphore says when to look. What counts are the tiles themselves: a
 * worker may die between drawing one and saying so. */
static void wait_for_tiles(int tiles)
{
    int finished = 0;
    while (finished < tiles || (finished = count_done(tiles)) < tiles) {
        struct sembuf one = {.sem_op = -1};
        struct timespec patience = {.tv_sec = 5};
        if (semtimedop(done, &one, 1, &patience) == 0) {
            finished++;
        } else {
            if (errno != EAGAIN)
                must(-1, "semtimedop");
            deal_again(tiles);
            finished = count_done(tiles);
        }
        show_progress(finished, tiles);
    }
}

/* A border pixel shows the tile's node, any other what the worker drew. */
static void picture_pixel(int x, int y, unsigned char rgb[3])
{
    static const unsigned char of_node[][3] = {{128, 128, 128}, {230, 60, 60},  {60, 200, 80},
                                               {70, 120, 255},  {240, 200, 40}, {220, 80, 220},
                                               {60, 210, 210},  {250, 140, 60}};
    const struct tile *tile = &picture->tiles[y / TILE * columns() + x / TILE];
    int tx = x % TILE, ty = y % TILE;
    if (tx == 0 || ty == 0 || tx == TILE - 1 || ty == TILE - 1)
        memcpy(rgb, of_node[tile->node % (sizeof of_node / sizeof of_node[0])], 3);
    else
        memcpy(rgb, tile->pixels[ty][tx], 3);
}

static void print_table(int tiles)
{
    int drawn[MAX_NODES] = {0};
    for (int i = 0; i < tiles; i++)
        drawn[picture->tiles[i].node % MAX_NODES]++;
    for (int node = 0; node < MAX_NODES; node++)
        if (drawn[node] > 0)
            printf("node %d drew %d tiles\n", node, drawn[node]);
}

static int master(const char *path, int width, int height)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        return 1;
    }

    /* Remains of a master that was killed are in the way of a new picture. */
    int flags = 0600 | IPC_DIPC, old;
    if ((old = shmget(PICTURE_KEY, 0, flags)) != -1)
        shmctl(old, IPC_RMID, NULL);
    if ((old = semget(PICTURE_KEY, 0, flags)) != -1)
        semctl(old, 0, IPC_RMID);
    struct work stale;
    queue = must(msgget(PICTURE_KEY, IPC_CREAT | flags), "msgget");
    while (msgrcv(queue, &stale, sizeof stale.tile, 0, IPC_NOWAIT) != -1)
        ;

    int tiles = ((width + TILE - 1) / TILE) * ((height + TILE - 1) / TILE);
    size_t size = sizeof(struct picture) + tiles * sizeof(struct tile);
    int segment = must(shmget(PICTURE_KEY, size, IPC_CREAT | IPC_EXCL | flags), "shmget");
    done = must(semget(PICTURE_KEY, 1, IPC_CREAT | IPC_EXCL | flags), "semget");
    attach(segment);
    picture->width = width;
    picture->height = height;

    for (int i = 0; i < tiles; i++)
        deal(i);
    wait_for_tiles(tiles);

    /* Workers see their queue vanish and end. */
    must(msgctl(queue, IPC_RMID, NULL), "msgctl");
    must(semctl(done, 0, IPC_RMID), "semctl");
    must(shmctl(segment, IPC_RMID, NULL), "shmctl"); /* goes when we detach */

    if (png_write(file, width, height, picture_pixel) == -1 || fclose(file) == EOF) {
        perror(path);
        return 1;
    }
    print_table(tiles);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return worker();
    if ((argc == 3 || argc == 5) && strcmp(argv[1], "master") == 0) {
        int width = argc == 5 ? atoi(argv[3]) : 960, height = argc == 5 ? atoi(argv[4]) : 640;
        if (width >= TILE && width <= PNG_MAX_WIDTH && height >= TILE && height <= PNG_MAX_WIDTH)
            return master(argv[2], width, height);
        fprintf(stderr, "mandelbrot: width and height are %d to %d pixels\n", TILE, PNG_MAX_WIDTH);
        return 2;
    }
    fprintf(stderr, "usage: mandelbrot master OUT.png [WIDTH HEIGHT] | mandelbrot worker\n");
    return 2;
}
