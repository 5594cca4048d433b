#ifndef PROXY_HTTP_RULE_H
#define PROXY_HTTP_RULE_H

/* Why a message can't be passed on: one row is the constant, the status with which a request that breaks the
 * rule is answered, and the words for the log. A response that breaks one is answered with 502.
 *
 * Pure; any thread. */

#define RULE_MAP(X)                                                                                          \
    X(RULE_NONE, 0, "")                                                                                      \
    X(RULE_NO_MEMORY, 503, "no memory for it")                                                               \
    X(RULE_LINE_LONG, 414, "the request line is longer than max_request_line")                               \
    X(RULE_HEAD_LONG, 431, "the head is longer than max_head")                                               \
    X(RULE_FIELDS, 431, "more fields than max_fields")                                                       \
    X(RULE_FIRST_BYTE, 400, "no request begins with such a byte")                                            \
    X(RULE_NOT_HTTP, 400, "a response begins with HTTP/1.")                                                  \
    X(RULE_EMPTY_LINES, 400, "empty lines in place of a message")                                            \
    X(RULE_BARE_CR, 400, "a CR without LF")                                                                  \
    X(RULE_BARE_LF, 400, "an LF without CR")                                                                 \
    X(RULE_LINE_ENDS, 400, "some lines end in CR LF, some in LF alone")                                      \
    X(RULE_CONTROL, 400, "a control character")                                                              \
    X(RULE_REQUEST_LINE, 400, "the request line is not method, target and version")                          \
    X(RULE_METHOD, 400, "the method is no token")                                                            \
    X(RULE_METHOD_CASE, 501, "a known method in another case")                                               \
    X(RULE_VERSION_FORM, 400, "the version is not HTTP/digit.digit")                                         \
    X(RULE_VERSION, 505, "a version other than HTTP/1")                                                      \
    X(RULE_TARGET, 400, "the target is none that the method may have")                                       \
    X(RULE_STATUS_LINE, 400, "the status line is not version, status and reason")                            \
    X(RULE_NO_COLON, 400, "a field without a colon")                                                         \
    X(RULE_FIELD_NAME, 400, "a field's name is no token")                                                    \
    X(RULE_FOLDED, 400, "a line begins with white space")                                                    \
    X(RULE_DISGUISED, 400, "Content-Length or Transfer-Encoding with an underscore")                         \
    X(RULE_LENGTH, 400, "Content-Length is no number")                                                       \
    X(RULE_LENGTHS, 400, "more than one Content-Length")                                                     \
    X(RULE_CODINGS, 400, "more than one Transfer-Encoding")                                                  \
    X(RULE_BOTH, 400, "Content-Length and Transfer-Encoding")                                                \
    X(RULE_CODING_OLD, 400, "Transfer-Encoding in HTTP/1.0")                                                 \
    X(RULE_CODING, 501, "a transfer coding other than chunked")                                              \
    X(RULE_NO_HOST, 400, "no Host")                                                                          \
    X(RULE_HOSTS, 400, "more than one Host")                                                                 \
    X(RULE_HOST, 400, "Host is no host and port")                                                            \
    X(RULE_NOMINATED, 400, "Connection names a field without which the message is another one")              \
    X(RULE_OPTIONS, 400, "Connection names too many fields")                                                 \
    X(RULE_CONNECT, 405, "CONNECT is off")                                                                   \
    X(RULE_CONNECT_BODY, 400, "CONNECT with a body")                                                         \
    X(RULE_UNASKED, 400, "101 to a request for no upgrade")                                                  \
    X(RULE_INTERIMS, 400, "too many interim answers")                                                        \
    X(RULE_READERS, 400, "a second reader reads another message")                                            \
    X(RULE_CHUNK_SIZE, 400, "a chunk's size is no number")                                                   \
    X(RULE_CHUNK_LINE, 400, "a line of a chunk does not end in CR LF")                                       \
    X(RULE_CHUNK_EXTENSION, 400, "a chunk's extension is none")                                              \
    X(RULE_CHUNK_LONG, 400, "a line of a chunk is too long")                                                 \
    X(RULE_CHUNK_END, 400, "a chunk is not as long as its size says")                                        \
    X(RULE_TRAILER, 400, "a trailer is no field")                                                            \
    X(RULE_TRAILER_NAME, 400, "a trailer that says how the message is framed or whom it is for")             \
    X(RULE_TRAILERS_LONG, 400, "too many trailers")

enum rule {
#define X(constant, status, words) constant,
    RULE_MAP(X)
#undef X
        RULE_COUNT
};

int rule_status(enum rule rule);
const char *rule_words(enum rule rule);

#endif
