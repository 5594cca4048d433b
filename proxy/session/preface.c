#include "proxy/session/preface.h"

#include "proxy/server/announce.h"
#include "proxy/server/backend.h"
#include "proxy/socket/network.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* #syscalls worker: recvfrom sendto ioctl getsockname */

enum preface preface_of(const struct conf_frontend *frontend, const union socket_address *client)
{
    bool trusted =
        client->family == AF_UNIX || network_holds(frontend->trusted, frontend->trusted_count, client);
    bool first_byte = frontend->connect_on == CONF_CONNECT_ON_FIRST_BYTE && frontend->mode == CONF_MODE_TCP;
    if (frontend->accept_proxy == CONF_ACCEPT_PROXY_REQUIRED)
        return trusted ? PREFACE_HEADER : PREFACE_REFUSED;
    if (frontend->accept_proxy == CONF_ACCEPT_PROXY_OPTIONAL && trusted)
        return PREFACE_HEADER_MAYBE;
    return first_byte ? PREFACE_BYTE : PREFACE_NONE;
}

static const struct conf_backend *backend_of(const struct session *s)
{
    return s->shared->backends[s->frontend->conf->backend].conf;
}

/* ---- from the client ---- */

static struct relay_leg *client_leg(struct session *s)
{
    return &s->legs[LEG_CLIENT].relay;
}

static enum preface_result end_with(struct pair_input *input, enum pair_event event, enum reason reason)
{
    *input = (struct pair_input){.event = event, .reason = reason};
    return PREFACE_TELLS;
}

static enum preface_result refuse(struct session *s, struct pair_input *input, const char *why)
{
    s->why = why;
    return end_with(input, PAIR_EVENT_ABORT, REASON_BAD_PREFACE);
}

/* The client is whom the header names. */
static void adopt(struct session *s, const struct proxy_header *header)
{
    sa_family_t family = header->source.ss_family;
    s->unnamed = !header->known;
    if (!header->known)
        return;
    s->client = (union socket_address){.family = family};
    if (family == AF_INET || family == AF_INET6)
        memcpy(&s->client, &header->source, sizeof s->client);
}

static enum preface_result begin(struct session *s, struct pair_input *input)
{
    size_t targets = backend_target_count(&s->shared->backends[s->frontend->conf->backend]);
    s->preface = PREFACE_NONE;
    *input = (struct pair_input){.event = PAIR_EVENT_BEGIN,
                                 .stage = s->exchange ? PAIR_STAGE_HEAD : PAIR_STAGE_BYTES,
                                 .servers_left = targets > 0 ? (uint32_t)targets - 1 : 0};
    return PREFACE_TELLS;
}

/* A header of `size` bytes has been read: takes it out of the queue. */
static enum preface_result take(struct session *s, const struct proxy_header *header, size_t size,
                                struct pair_input *input)
{
    ssize_t got = recv(client_leg(s)->fd, s->shared->tools.scratch, size, 0);
    if (got != (ssize_t)size)
        return refuse(s, input, "it could not be taken out of the socket in one piece");
    adopt(s, header);
    if (backend_of(s)->send_proxy != CONF_SEND_PROXY_OFF) {
        s->told = malloc(sizeof *s->told);
        if (!s->told)
            return end_with(input, PAIR_EVENT_ABORT, REASON_NO_MEMORY);
        *s->told = *header;
    }
    /* With `first_byte` what counts is a byte of the client's own, not of the proxy before it. */
    if (s->frontend->conf->connect_on == CONF_CONNECT_ON_FIRST_BYTE && !s->exchange) {
        s->preface = PREFACE_BYTE;
        return preface_work(s, input);
    }
    return begin(s, input);
}

static enum preface_result look(struct session *s, size_t size, struct pair_input *input)
{
    struct relay_leg *client = client_leg(s);
    struct proxy_header header;
    if (s->preface == PREFACE_BYTE)
        return begin(s, input);
    int read = proxy_header_read(&header, (const uint8_t *)s->shared->tools.scratch, size);
    if (read > 0)
        return take(s, &header, (size_t)read, input);
    if (read == -PROXY_HEADER_FOREIGN && s->preface == PREFACE_HEADER_MAYBE)
        return begin(s, input);
    if (read < 0)
        return refuse(s, input, proxy_header_error_text((enum proxy_header_error) - read));
    if (client->fin)
        return refuse(s, input, "a FIN before its end");
    client->readable = false;
    return PREFACE_WAITS;
}

enum preface_result preface_work(struct session *s, struct pair_input *input)
{
    struct relay_leg *client = client_leg(s);
    if (client->broken)
        return PREFACE_CLIENT_GONE;
    size_t most = s->preface == PREFACE_BYTE ? 1 : PROXY_HEADER_MAX;
    ssize_t got = recv(client->fd, s->shared->tools.scratch, most, MSG_PEEK);
    if (got > 0)
        return look(s, (size_t)got, input);
    if (got == 0) /* its FIN is read where it closes */
        return end_with(input, PAIR_EVENT_COMPLETE, REASON_CLOSED);
    if (errno == EAGAIN) {
        client->readable = false;
        return PREFACE_WAITS;
    }
    client->error = -errno;
    client->broken = true;
    return PREFACE_CLIENT_GONE;
}

/* ---- to the backend ---- */

/* What the backend is told of the client. */
static struct proxy_header describe(const struct session *s)
{
    struct proxy_header header = {.known = true};
    socklen_t size = sizeof header.destination;
    if (s->told)
        return *s->told;
    memcpy(&header.source, &s->client, sizeof s->client);
    if (getsockname(s->legs[LEG_CLIENT].relay.fd, (struct sockaddr *)&header.destination, &size))
        header.known = false;
    return header;
}

/* Whether more is written to the backend at once: then it goes into the same segment. */
static bool follows(const struct session *s)
{
    int waiting = 0;
    return s->exchange || (ioctl(s->legs[LEG_CLIENT].relay.fd, FIONREAD, &waiting) == 0 && waiting > 0);
}

/* The socket had no room for all of it, new as it is. */
static void hold(struct session *s, const uint8_t *bytes, size_t size, struct pair_input *input)
{
    char *rest = malloc(size);
    if (!rest) {
        (void)end_with(input, PAIR_EVENT_ABORT, REASON_NO_MEMORY);
        return;
    }
    memcpy(rest, bytes, size);
    relay_adopt(&s->relays[HALF_REQUEST], rest, 0, size);
    s->legs[LEG_BACKEND].relay.writable = false;
    *input = (struct pair_input){.event = PAIR_EVENT_HELD, .half = HALF_REQUEST};
}

bool preface_send(struct session *s, struct pair_input *input)
{
    enum conf_send_proxy how = backend_of(s)->send_proxy;
    struct relay_leg *backend = &s->legs[LEG_BACKEND].relay;
    uint8_t bytes[ANNOUNCE_MAX];
    if (how == CONF_SEND_PROXY_OFF)
        return false;
    struct proxy_header header = describe(s);
    size_t size = announce_write(bytes, how, &header, s->id);
    ssize_t sent = send(backend->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT | (follows(s) ? MSG_MORE : 0));
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        backend->error = -errno; /* who reads the leg next finds it so */
        backend->broken = true;
        return false;
    }
    size_t taken = sent > 0 ? (size_t)sent : 0;
    if (taken < size)
        hold(s, bytes + taken, size - taken, input);
    return taken < size;
}

void preface_end(struct session *s)
{
    free(s->told);
    s->told = NULL;
}
