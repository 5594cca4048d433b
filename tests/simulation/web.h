#ifndef TESTS_SIMULATION_WEB_H
#define TESTS_SIMULATION_WEB_H

/* Peers that talk HTTP/1: a client that asks what its session's talk says, and servers that answer each
 * request as the talk says of it, whichever connection it comes over.
 *
 * Each has a reader that is shown every byte when the proxy writes it. A request says in its target which it
 * is, an answer in a field of its head, and the bytes of a body are known from both, so that whatever is not
 * exactly the next message of this session ends the simulation there. Readers and writers share no code with
 * the proxy. */

#include "tests/simulation/host.h"

enum { ASKS_MAX = 6 };

enum body { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_CLOSE };

/* How a peer stops in the middle of what it says. */
enum stop { STOP_NOT, STOP_STALL, STOP_FIN, STOP_RESET, STOP_VANISH, STOP_COUNT };

/* What is wrong with a message. */
enum flaw {
    FLAW_NONE,
    FLAW_LINE,     /* the first line is none */
    FLAW_LENGTHS,  /* two lengths */
    FLAW_BOTH,     /* a length and a coding */
    FLAW_BLANK,    /* white space before a colon */
    FLAW_CHUNK,    /* a size that is none, behind the first chunk */
    FLAW_INTERIMS, /* an answer: more interim ones than may be */
    FLAW_EXCESS,   /* an answer: bytes behind its end */
    FLAW_COUNT
};

/* What a server does behind an answer. */
enum after { AFTER_GOES_ON, AFTER_CLOSES, AFTER_CLOSES_LATER };

/* What is odd about how a message is said, but can be read in one way only. */
struct oddity {
    bool bare_lf;    /* lines of its head end in LF alone */
    bool zeros;      /* before a length */
    bool extensions; /* behind sizes of chunks, of all kinds */
    bool padding;    /* there; an answer */
    bool twice;      /* its length is said; an answer */
};

struct reply {
    struct oddity oddity;
    uint16_t status;
    uint8_t minor;
    enum body body;
    uint64_t body_bytes;
    unsigned interims; /* 1xx before it */
    bool early;        /* as soon as the head of the request is there */
    bool says_close;
    uint32_t think_ms;
    enum after after;
    enum flaw flaw;
    enum stop stop;
    uint64_t stop_at; /* bytes, its interim answers included */
};

struct ask {
    struct oddity oddity;
    const char *method;
    bool repeatable; /* idempotent, and has no body */
    uint8_t minor;
    bool says_close, says_keep;
    enum body body;
    uint64_t body_bytes;
    bool pipelined; /* sent behind the one before without waiting */
    bool expects;   /* 100-continue */
    uint32_t think_ms, filler_bytes;
    enum flaw flaw;
    struct reply reply;

    uint64_t said_offset;            /* where it begins in what the client says */
    unsigned arrivals;               /* how often a server was sent its first line */
    unsigned interims;               /* how many the client was sent */
    const struct connection *server; /* that answered it last, */
    uint64_t reply_offset;           /* with bytes from there on in its stream, */
    uint64_t body_offset;            /* of which these are the body, */
    uint64_t end_offset;             /* and with nothing more behind this */
    bool answered;                   /* the client was sent the whole of the answer, by a server */
    uint16_t own_status;             /* of the proxy's own answer to it; 0: none */
};

enum farewell { FAREWELL_CLOSE, FAREWELL_HALF_CLOSE, FAREWELL_WAIT, FAREWELL_COUNT };

/* All that is said in a session. */
struct talk {
    size_t count;
    struct ask asks[ASKS_MAX];
    uint32_t
        reaction_ms; /* from an answer's coming to the proxy to the next request's, without its think_ms */
    enum farewell farewell;
    enum stop stop; /* of the client */
    uint64_t stop_at;
};

/* The talks of the batch, by session; the simulation plans them. */
extern struct talk talks[BATCH];

extern const struct application web_clients, web_servers;

/* Gives a connection of one of these applications its state. `orderly`: a server that reads what comes, and
 * closes when it reads EOF. */
void web_open(struct connection *c, bool orderly);

/* The proxy sends FIN: whether that is the end of all that was said before it. */
bool web_ends_well(const struct connection *c);

/* The proxy sends FIN inside an answer: whether its server had sent one there, and the answer itself shows to
 * its reader that it is cut, by its length or its chunks. */
bool web_shows_cut(const struct connection *c);

/* Whether it is a server that is orderly and has answered whatever it was asked; its answers have been read.
 * It closes as soon as it reads EOF. */
bool web_server_at_rest(const struct connection *c);

#endif
