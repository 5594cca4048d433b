#include "reaper/kernel/diag.h"

#include "reaper/error.h"
#include "reaper/kernel/decimal.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>

/* A dump request. It is the older of the two forms, TCPDIAG_GETSOCK, because the kernel's answer to that has
 * the sockets of both families (net/ipv4/inet_diag.c, inet_diag_dump_compat), where SOCK_DIAG_BY_FAMILY would
 * have to walk the whole hash table once for each family:
 *
 *   nlmsghdr | inet_diag_req    | nlattr INET_DIAG_REQ_BYTECODE
 *                                  [remote host] [local host] [port | JMP end] [port | JMP end] ... [port]
 *
 * The bytecode is a list of conditional jumps forward, relative to their own start. Falling off its end
 * exactly accepts a socket, jumping four bytes beyond rejects it. The kernel's audit walks it along the "yes"
 * lengths, so "yes" is always the next operation, and an early accept takes an unconditional jump. */
struct dump_request {
    struct nlmsghdr head;
    struct inet_diag_req body;
};

/* A request about one socket. */
struct request {
    struct nlmsghdr head;
    struct inet_diag_req_v2 body;
};

static_assert(sizeof(struct request) == DIAG_REQUEST_SIZE, "no padding between netlink header and request");
static_assert(sizeof(struct dump_request) == NLMSG_ALIGN(sizeof(struct dump_request)),
              "attributes follow at once");
static_assert(sizeof(struct nlattr) % NLA_ALIGNTO == 0, "an attribute's payload follows its header");
static_assert(sizeof(struct inet_diag_sockid) == 48 && sizeof(struct inet_diag_msg) == 72,
              "the kernel's layout");

enum {
    OP = sizeof(struct inet_diag_bc_op),
    PORT_OP = 2 * OP,          /* comparison, operand */
    PORT_ENTRY = PORT_OP + OP, /* and the jump to the end; the last entry has none */
    ATTRIBUTE = sizeof(struct nlattr),
    HOST_OP = OP + sizeof(struct inet_diag_hostcond), /* and the address */
    BYTECODE_MAX = UINT16_MAX - OP,                   /* a rejecting jump, or the attribute's length */
};

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool diag_host_is_v4(const uint8_t host[16])
{
    return memcmp(host, v4_prefix, sizeof v4_prefix) == 0;
}

bool diag_host_is_any(const uint8_t host[16])
{
    static const uint8_t v6[16];
    return memcmp(host, v6, sizeof v6) == 0 ||
           (diag_host_is_v4(host) && memcmp(host + sizeof v4_prefix, v6, 4) == 0);
}

static void host_decode(uint8_t host[16], uint8_t family, const __be32 words[4])
{
    if (family == AF_INET) {
        memcpy(host, v4_prefix, sizeof v4_prefix);
        memcpy(host + sizeof v4_prefix, words, 4);
    } else {
        memcpy(host, words, 16);
    }
}

static void host_encode(__be32 words[4], uint8_t family, const uint8_t host[16])
{
    memset(words, 0, 16);
    if (family == AF_INET)
        memcpy(words, host + sizeof v4_prefix, 4);
    else
        memcpy(words, host, 16);
}

/* ---- requests ---- */

static size_t host_op_size(const struct diag_prefix *prefix)
{
    if (!prefix)
        return 0;
    return HOST_OP + (diag_host_is_v4(prefix->host) && prefix->bits >= 96 ? 4 : 16);
}

static size_t comparisons(const struct diag_filter *filter)
{
    return filter->port_count * (filter->side == DIAG_EITHER ? 2 : 1);
}

static size_t bytecode_size(const struct diag_filter *filter)
{
    size_t ports = comparisons(filter) * PORT_ENTRY;
    return host_op_size(filter->local_host) + host_op_size(filter->remote_host) + (ports ? ports - OP : 0);
}

size_t diag_dump_size(const struct diag_filter *filter)
{
    size_t code = bytecode_size(filter);
    return sizeof(struct dump_request) + (code ? ATTRIBUTE + code : 0);
}

/* Where bytecode is written, and how much of it is still to come. */
struct bytecode {
    uint8_t *at;
    size_t left_bytes;
};

static void emit(struct bytecode *code, const void *bytes, size_t length_bytes)
{
    assert(length_bytes <= code->left_bytes);
    memcpy(code->at, bytes, length_bytes);
    code->at += length_bytes;
    code->left_bytes -= length_bytes;
}

static void emit_op(struct bytecode *code, unsigned operation, size_t yes_bytes, size_t no_bytes)
{
    const struct inet_diag_bc_op op = {
        .code = (unsigned char)operation, .yes = (unsigned char)yes_bytes, .no = (unsigned short)no_bytes};
    emit(code, &op, sizeof op);
}

static void emit_host(struct bytecode *code, unsigned operation, const struct diag_prefix *prefix)
{
    size_t size = host_op_size(prefix);
    if (size == 0)
        return;
    bool v4 = size == HOST_OP + 4;
    struct inet_diag_hostcond condition;
    memset(&condition, 0, sizeof condition); /* the bytes between its fields go to the kernel as well */
    condition.family = v4 ? AF_INET : AF_INET6;
    condition.prefix_len = (uint8_t)(v4 ? prefix->bits - 96 : prefix->bits);
    condition.port = -1; /* any */
    emit_op(code, operation, size, code->left_bytes + OP);
    emit(code, &condition, sizeof condition);
    emit(code, prefix->host + (v4 ? sizeof v4_prefix : 0), v4 ? 4 : 16);
}

static void emit_port(struct bytecode *code, unsigned operation, uint16_t port)
{
    bool last = code->left_bytes == PORT_OP;
    emit_op(code, operation, PORT_OP, PORT_ENTRY); /* past the last one's end: reject */
    emit_op(code, INET_DIAG_BC_NOP, 0, port);
    if (!last)
        emit_op(code, INET_DIAG_BC_JMP, OP, code->left_bytes);
}

static void emit_filter(struct bytecode *code, const struct diag_filter *filter)
{
    emit_host(code, INET_DIAG_BC_S_COND, filter->local_host);
    emit_host(code, INET_DIAG_BC_D_COND, filter->remote_host);
    for (size_t i = 0; i < filter->port_count; i++) {
        if (filter->side != DIAG_REMOTE)
            emit_port(code, INET_DIAG_BC_S_EQ, filter->ports[i]);
        if (filter->side != DIAG_LOCAL)
            emit_port(code, INET_DIAG_BC_D_EQ, filter->ports[i]);
    }
    assert(code->left_bytes == 0);
}

static struct request request_make(uint16_t type, uint16_t flags, uint8_t family, uint32_t sequence)
{
    return (struct request){
        .head = {.nlmsg_len = sizeof(struct request),
                 .nlmsg_type = type,
                 .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
                 .nlmsg_seq = sequence},
        .body = {.sdiag_family = family, .sdiag_protocol = IPPROTO_TCP},
    };
}

static uint8_t extensions(bool want_info)
{
    return want_info ? 1U << (INET_DIAG_INFO - 1) : 0;
}

ssize_t diag_build_dump(void *buffer, size_t size, const struct diag_filter *filter, uint32_t sequence)
{
    if (filter->port_count > BYTECODE_MAX || bytecode_size(filter) > BYTECODE_MAX)
        return -E2BIG;
    size_t code_bytes = bytecode_size(filter), total = diag_dump_size(filter);
    if (size < total)
        return -ENOBUFS;
    const struct dump_request request = {
        .head = {.nlmsg_len = (uint32_t)total,
                 .nlmsg_type = TCPDIAG_GETSOCK,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                 .nlmsg_seq = sequence},
        .body = {.idiag_ext = extensions(filter->want_info), .idiag_states = filter->states},
    };
    memcpy(buffer, &request, sizeof request);
    if (code_bytes) {
        const struct nlattr attribute = {.nla_len = (uint16_t)(ATTRIBUTE + code_bytes),
                                         .nla_type = INET_DIAG_REQ_BYTECODE};
        uint8_t *at = (uint8_t *)buffer + sizeof request;
        memcpy(at, &attribute, sizeof attribute);
        struct bytecode code = {.at = at + ATTRIBUTE, .left_bytes = code_bytes};
        emit_filter(&code, filter);
    }
    return (ssize_t)total;
}

static ssize_t request_put(void *buffer, size_t size, struct request *request, const struct diag_id *id)
{
    if (size < sizeof *request)
        return -ENOBUFS;
    struct inet_diag_sockid *socket = &request->body.id;
    socket->idiag_sport = htons(id->local.port);
    socket->idiag_dport = htons(id->remote.port);
    host_encode(socket->idiag_src, id->family, id->local.host);
    host_encode(socket->idiag_dst, id->family, id->remote.host);
    socket->idiag_if = id->interface;
    socket->idiag_cookie[0] = (uint32_t)id->cookie;
    socket->idiag_cookie[1] = (uint32_t)(id->cookie >> 32);
    memcpy(buffer, request, sizeof *request);
    return sizeof *request;
}

ssize_t diag_build_lookup(void *buffer, size_t size, const struct diag_id *id, bool want_info,
                          uint32_t sequence)
{
    struct request request = request_make(SOCK_DIAG_BY_FAMILY, 0, id->family, sequence);
    request.body.idiag_states = DIAG_STATES_ALL;
    request.body.idiag_ext = extensions(want_info);
    return request_put(buffer, size, &request, id);
}

ssize_t diag_build_destroy(void *buffer, size_t size, const struct diag_id *id, uint32_t sequence)
{
    if (id->cookie == DIAG_NO_COOKIE)
        return -EINVAL;
    struct request request = request_make(SOCK_DESTROY, NLM_F_ACK, id->family, sequence);
    request.body.idiag_states = DIAG_STATES_ALL;
    return request_put(buffer, size, &request, id);
}

/* ---- replies ---- */

void diag_reader_init(struct diag_reader *reader, const void *bytes, size_t length_bytes, uint32_t sequence)
{
    *reader = (struct diag_reader){.at = bytes, .left_bytes = length_bytes, .sequence = sequence};
}

static void info_decode(struct diag_row *row, const uint8_t *bytes, size_t length_bytes)
{
    struct tcp_info info = {0};
    memcpy(&info, bytes, length_bytes < sizeof info ? length_bytes : sizeof info);
    row->has_info = true;
    row->info = (struct diag_info){
        .last_data_sent_ms = info.tcpi_last_data_sent,
        .last_data_recv_ms = info.tcpi_last_data_recv,
        .last_ack_recv_ms = info.tcpi_last_ack_recv,
        .rtt_us = info.tcpi_rtt,
        .retransmits = info.tcpi_retransmits,
        .unacked = info.tcpi_unacked,
        .notsent_bytes = info.tcpi_notsent_bytes,
        .acked_bytes = info.tcpi_bytes_acked,
        .received_bytes = info.tcpi_bytes_received,
        .sent_bytes = info.tcpi_bytes_sent,
    };
}

static int attributes_decode(struct diag_row *row, const uint8_t *at, size_t left_bytes)
{
    while (left_bytes >= sizeof(struct nlattr)) {
        struct nlattr attribute;
        memcpy(&attribute, at, sizeof attribute);
        if (attribute.nla_len < sizeof attribute)
            return ERROR_MALFORMED;
        if (attribute.nla_len > left_bytes)
            return ERROR_TRUNCATED;
        if ((attribute.nla_type & NLA_TYPE_MASK) == INET_DIAG_INFO)
            info_decode(row, at + ATTRIBUTE, attribute.nla_len - sizeof attribute);
        else if ((attribute.nla_type & NLA_TYPE_MASK) == INET_DIAG_SKV6ONLY &&
                 attribute.nla_len > sizeof attribute)
            row->v6_only = at[ATTRIBUTE] != 0;
        size_t step = (attribute.nla_len + NLA_ALIGNTO - 1U) & ~(NLA_ALIGNTO - 1U);
        if (step >= left_bytes)
            break;
        at += step;
        left_bytes -= step;
    }
    return 0;
}

static int row_decode(struct diag_row *row, const uint8_t *body, size_t length_bytes)
{
    struct inet_diag_msg message;
    if (length_bytes < sizeof message)
        return ERROR_TRUNCATED;
    memcpy(&message, body, sizeof message);
    if (message.idiag_family != AF_INET && message.idiag_family != AF_INET6)
        return ERROR_MALFORMED;
    *row = (struct diag_row){
        .id = {.family = message.idiag_family,
               .local.port = ntohs(message.id.idiag_sport),
               .remote.port = ntohs(message.id.idiag_dport),
               .interface = message.id.idiag_if,
               .cookie = (uint64_t)message.id.idiag_cookie[1] << 32 | message.id.idiag_cookie[0]},
        .state = message.idiag_state,
        .timer = message.idiag_timer,
        .timer_tries = message.idiag_retrans,
        .timer_ms = message.idiag_expires,
        .rqueue_bytes = message.idiag_rqueue,
        .wqueue_bytes = message.idiag_wqueue,
        .uid = message.idiag_uid,
        .inode = message.idiag_inode,
    };
    host_decode(row->id.local.host, message.idiag_family, message.id.idiag_src);
    host_decode(row->id.remote.host, message.idiag_family, message.id.idiag_dst);
    return attributes_decode(row, body + sizeof message, length_bytes - sizeof message);
}

/* NLMSG_ERROR and NLMSG_DONE both begin with an error number; a DONE without one is a success. */
static int status_decode(uint16_t type, const uint8_t *body, size_t length_bytes)
{
    int32_t code = 0;
    if (length_bytes >= sizeof code)
        memcpy(&code, body, sizeof code);
    else if (type == NLMSG_ERROR)
        return ERROR_TRUNCATED;
    if (code > 0 || code < -4095)
        return ERROR_MALFORMED;
    if (code < 0)
        return code;
    return type == NLMSG_ERROR ? DIAG_MESSAGE_ACK : DIAG_MESSAGE_DONE;
}

static int message_decode(uint16_t type, const uint8_t *body, size_t length_bytes, struct diag_row *row)
{
    switch (type) {
    case NLMSG_ERROR:
    case NLMSG_DONE:
        return status_decode(type, body, length_bytes);
    case NLMSG_OVERRUN:
        return -ENOBUFS;
    case TCPDIAG_GETSOCK: /* an answer has its request's type */
    case SOCK_DIAG_BY_FAMILY: {
        int error = row_decode(row, body, length_bytes);
        return error ? error : DIAG_MESSAGE_ROW;
    }
    default:
        return DIAG_MESSAGE_NONE;
    }
}

/* Cuts the next message off. Its header goes to `head`; returns its body. */
static const uint8_t *message_take(struct diag_reader *reader, struct nlmsghdr *head, int *error)
{
    *error = ERROR_TRUNCATED;
    if (reader->left_bytes < sizeof *head)
        return NULL;
    memcpy(head, reader->at, sizeof *head);
    if (head->nlmsg_len > reader->left_bytes)
        return NULL;
    *error = ERROR_MALFORMED;
    if (head->nlmsg_len < sizeof *head)
        return NULL;
    const uint8_t *body = reader->at + NLMSG_HDRLEN;
    size_t step = NLMSG_ALIGN((size_t)head->nlmsg_len);
    if (step > reader->left_bytes)
        step = reader->left_bytes; /* the last message's padding may be missing */
    reader->at += step;
    reader->left_bytes -= step;
    *error = 0;
    return body;
}

int diag_next(struct diag_reader *reader, struct diag_row *row)
{
    while (reader->left_bytes > 0) {
        struct nlmsghdr head;
        int result;
        const uint8_t *body = message_take(reader, &head, &result);
        if (body && head.nlmsg_seq != reader->sequence)
            continue;
        if (body) {
            if (head.nlmsg_flags & NLM_F_DUMP_INTR)
                reader->interrupted = true;
            result = message_decode(head.nlmsg_type, body, head.nlmsg_len - sizeof head, row);
        }
        if (result == ERROR_TRUNCATED || result == ERROR_MALFORMED)
            reader->left_bytes = 0;
        if (result != DIAG_MESSAGE_NONE)
            return result;
    }
    return DIAG_MESSAGE_NONE;
}

/* ---- names and text ---- */

static const char *const state_names[DIAG_STATE_COUNT] = {
#define X(constant, number, name) [constant] = (name),
    DIAG_STATE_MAP(X)
#undef X
};

const char *diag_state_name(unsigned state)
{
    return state < DIAG_STATE_COUNT && state_names[state] ? state_names[state] : "unknown";
}

int diag_state_parse(const char *name)
{
    for (int state = 1; state < DIAG_STATE_COUNT; state++)
        if (strcmp(name, state_names[state]) == 0)
            return state;
    return -EINVAL;
}

bool diag_endpoint_of(const struct sockaddr_storage *address, struct diag_endpoint *endpoint)
{
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        memcpy(endpoint->host, v4_prefix, sizeof v4_prefix);
        memcpy(endpoint->host + sizeof v4_prefix, &in->sin_addr, sizeof in->sin_addr);
        endpoint->port = ntohs(in->sin_port);
        return true;
    }
    if (address->ss_family != AF_INET6)
        return false;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
    memcpy(endpoint->host, &in6->sin6_addr, sizeof endpoint->host);
    endpoint->port = ntohs(in6->sin6_port);
    return true;
}

bool diag_endpoint_equal(const struct diag_endpoint *a, const struct diag_endpoint *b)
{
    return a->port == b->port && memcmp(a->host, b->host, sizeof a->host) == 0;
}

const char *diag_host_text(const uint8_t host[16], char text[DIAG_HOST_TEXT])
{
    if (!diag_host_is_v4(host)) {
        inet_ntop(AF_INET6, host, text, DIAG_HOST_TEXT);
        return text;
    }
    char *at = text;
    for (size_t i = sizeof v4_prefix; i < 16; i++) {
        at = decimal_put(at, host[i]);
        *at++ = '.';
    }
    at[-1] = '\0';
    return text;
}

const char *diag_endpoint_text(const struct diag_endpoint *endpoint, char text[DIAG_ENDPOINT_TEXT])
{
    bool v4 = diag_host_is_v4(endpoint->host);
    char *at = text;
    if (!v4)
        *at++ = '[';
    at += strlen(diag_host_text(endpoint->host, at));
    if (!v4)
        *at++ = ']';
    *at++ = ':';
    *decimal_put(at, endpoint->port) = '\0';
    return text;
}
