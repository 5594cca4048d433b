#include "tests/simulation/stream.h"

#include <string.h>

enum { PERIOD = 65521 };

static const unsigned char *at(uint64_t salt, uint64_t offset)
{
    static unsigned char table[3 * PERIOD];
    if (table[1] == 0 && table[2] == 0) {
        uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
        for (size_t i = 0; i < PERIOD; i++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            table[i] = table[i + PERIOD] = table[i + PERIOD + PERIOD] = (unsigned char)(state >> 56);
        }
    }
    return &table[(salt + offset) % PERIOD];
}

uint64_t stream_salt(size_t nth)
{
    return nth * UINT64_C(7919) % PERIOD;
}

void stream_write(uint64_t salt, uint64_t offset, unsigned char *bytes, size_t size)
{
    while (size > 0) {
        size_t piece = size < NETWORK_PIECE ? size : NETWORK_PIECE;
        memcpy(bytes, at(salt, offset), piece);
        bytes += piece;
        offset += piece;
        size -= piece;
    }
}

bool stream_matches(uint64_t salt, uint64_t offset, const unsigned char *bytes, size_t size)
{
    while (size > 0) {
        size_t piece = size < NETWORK_PIECE ? size : NETWORK_PIECE;
        if (memcmp(bytes, at(salt, offset), piece) != 0)
            return false;
        bytes += piece;
        offset += piece;
        size -= piece;
    }
    return true;
}

static uint64_t salt_of(const struct connection *c, enum half half)
{
    return stream_salt(c->session * (size_t)HALF_COUNT + half);
}

static const unsigned char *wrote(const struct connection *c, uint64_t offset)
{
    return at(salt_of(c, half_from(c->leg)), offset);
}

static void takes(struct connection *c, const unsigned char *bytes, size_t size)
{
    if (!stream_matches(salt_of(c, half_to(c->leg)), c->sent_bytes, bytes, size))
        broken(c->session, "every byte arrives once, in its place and in its session");
}

const struct application stream_peers = {.wrote = wrote, .takes = takes};
