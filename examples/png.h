/* Writes a PNG without a library: 8 bits each of red, green and blue, and the
 * pixels uncompressed (a zlib stream may consist of "stored" blocks).
 *
 *   PNG    = signature, chunk IHDR, chunks IDAT, chunk IEND
 *   chunk  = length, name, data, CRC-32 of name and data
 *   zlib   = 2 bytes header, stored blocks, Adler-32 of what they hold
 *
 * Each row of pixels becomes one stored block in one IDAT chunk. */
#ifndef EXAMPLES_PNG_H
#define EXAMPLES_PNG_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* A row is a filter byte (0, none) and three bytes a pixel; a stored block holds
 * at most 65 535 bytes. */
#define PNG_MAX_WIDTH ((65535 - 1) / 3)

static void png_be32(unsigned char *to, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        to[i] = number >> (24 - 8 * i);
}

static uint32_t png_crc(uint32_t crc, const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return crc;
}

static void png_chunk(FILE *file, const char *name, const unsigned char *data, size_t count)
{
    unsigned char number[4];
    png_be32(number, count);
    fwrite(number, 1, 4, file);
    fwrite(name, 1, 4, file);
    fwrite(data, 1, count, file);
    uint32_t crc = png_crc(0xffffffffu, (const unsigned char *)name, 4);
    png_be32(number, ~png_crc(crc, data, count));
    fwrite(number, 1, 4, file);
}

static uint32_t png_adler(uint32_t adler, const unsigned char *bytes, size_t count)
{
    uint32_t a = adler & 0xffff, b = adler >> 16;
    for (size_t i = 0; i < count; i++) {
        a = (a + bytes[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

/* Writes a picture whose pixel at (x, y) is what `pixel` stores into `rgb`.
 * Returns 0, or -1 if the picture is too wide or the file does not take it. */
static int png_write(FILE *file, int width, int height,
                     void (*pixel)(int x, int y, unsigned char rgb[3]))
{
    static const unsigned char signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static unsigned char data[2 + 5 + 65535 + 4];
    if (width > PNG_MAX_WIDTH)
        return -1;

    unsigned char header[13] = {[8] = 8 /* bits */, [9] = 2 /* red, green, blue */};
    png_be32(header, width);
    png_be32(header + 4, height);
    fwrite(signature, 1, sizeof signature, file);
    png_chunk(file, "IHDR", header, sizeof header);

    uint32_t adler = 1;
    for (int y = 0; y < height; y++) {
        size_t used = 0, row = 1 + 3 * (size_t)width;
        if (y == 0) {
            data[used++] = 0x78; /* zlib: deflate with a window of 32 KiB */
            data[used++] = 0x01;
        }
        data[used++] = y == height - 1; /* the last block? */
        data[used++] = row & 0xff;
        data[used++] = row >> 8;
        data[used++] = ~row & 0xff;
        data[used++] = ~row >> 8 & 0xff;
        data[used] = 0;
        for (int x = 0; x < width; x++)
            pixel(x, y, data + used + 1 + 3 * x);
        adler = png_adler(adler, data + used, row);
        used += row;
        if (y == height - 1) {
            png_be32(data + used, adler);
            used += 4;
        }
        png_chunk(file, "IDAT", data, used);
    }
    png_chunk(file, "IEND", NULL, 0);
    return fflush(file) == 0 && !ferror(file) ? 0 : -1;
}

#endif
