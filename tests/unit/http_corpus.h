#ifndef TESTS_UNIT_HTTP_CORPUS_H
#define TESTS_UNIT_HTTP_CORPUS_H

/* Requests that could be taken for something else than they are, and their harmless neighbours.
 *
 * Each row is a stream of bytes from a client: how many whole requests are found in it, and the status with
 * which it is refused after those; 0: it is not. The cases are those of RFC 9112's own warnings (2.2, 3.2, 5,
 * 6, 7.1, 9.3, 11.2) and the published families of request smuggling: CL.TE, TE.CL, TE.TE, CL.0, 0.CL, bare
 * LF and CR, chunk extensions, tunnels and upgrades. */

#include <stddef.h>

struct corpus_row {
    const char *name;
    unsigned requests;
    int status;
    const char *bytes;
    size_t size;
};

#define ROW(name, requests, status, bytes)                                                                   \
    {                                                                                                        \
        name, requests, status, bytes, sizeof(bytes) - 1                                                     \
    }

#define H "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\n" H
#define CL5 "Content-Length: 5\r\n"
#define TE "Transfer-Encoding: chunked\r\n"
#define END "\r\n"
#define SMUGGLED "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
#define CHUNKED POST TE END

static const struct corpus_row corpus[] = {
    /* in order */
    ROW("plain get", 1, 0, GET H END),
    ROW("three pipelined", 3, 0, GET H END GET H END GET H END),
    ROW("a body with a length", 1, 0, POST CL5 END "hello"),
    ROW("a body with a length, then another request", 2, 0, POST CL5 END "hello" GET H END),
    ROW("a body of length 0", 2, 0, POST "Content-Length: 0\r\n" END GET H END),
    ROW("a length with leading zeros", 1, 0, POST "Content-Length: 005\r\n" END "hello"),
    ROW("one chunk", 1, 0, CHUNKED "5\r\nhello\r\n0\r\n\r\n"),
    ROW("two chunks, then another request", 2, 0, CHUNKED "1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n" GET H END),
    ROW("chunks with trailers", 2, 0, CHUNKED "1\r\na\r\n0\r\nX: 1\r\nY:2\r\n\r\n" GET H END),
    ROW("chunk extensions", 1, 0, CHUNKED "1;a\r\na\r\n1;b=c\r\nb\r\n0;d=\"e\"\r\n\r\n"),
    ROW("leading zeros in a chunk's size", 1, 0, CHUNKED "0001\r\na\r\n000\r\n\r\n"),
    ROW("chunk size in both cases", 1, 0, CHUNKED "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
    ROW("coding in capitals", 1, 0, POST "TRANSFER-ENCODING: CHUNKED\r\n" END "0\r\n\r\n"),
    ROW("http/1.0 without a host", 1, 0, "GET / HTTP/1.0\r\n\r\n"),
    ROW("http/1.0 with a host and a body", 1, 0, "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
    ROW("one empty line before a request", 1, 0, "\r\n" GET H END),
    ROW("an empty line between two", 2, 0, GET H END "\r\n" GET H END),
    ROW("an empty host", 1, 0, GET "Host:\r\n" END),
    ROW("a host with a port", 1, 0, GET "Host: a.example:8080\r\n" END),
    ROW("an IPv6 host", 1, 0, GET "Host: [::1]:80\r\n" END),
    ROW("absolute target", 1, 0, "GET http://a/x HTTP/1.1\r\n" H END),
    ROW("absolute target in another case", 1, 0, "GET HTTP://A/x HTTP/1.1\r\n" H END),
    ROW("options *", 1, 0, "OPTIONS * HTTP/1.1\r\n" H END),
    ROW("connect", 1, 0, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n" END),
    ROW("an upgrade", 1, 0, GET H "Connection: Upgrade\r\nUpgrade: websocket\r\n" END),
    ROW("a value with tabs and blanks", 1, 0, GET H "X: \t a \t b\t \r\n" END),
    ROW("an empty value", 1, 0, GET H "X:\r\n" END),
    ROW("bytes beyond ASCII in a value", 1, 0, GET H "X: \xc3\xa9\xff\r\n" END),
    ROW("a colon in a value", 1, 0, GET H "X: a:b\r\n" END),
    ROW("every token byte in a name", 1, 0, GET H "!#$%&'*+-.^_`|~09azAZ: 1\r\n" END),
    ROW("a get with a body", 2, 0, "GET / HTTP/1.1\r\n" H CL5 END "hello" GET H END),
    ROW("a body that looks like a request", 1, 0, POST "Content-Length: 32\r\n" END SMUGGLED),
    ROW("a chunk that looks like a request", 1, 0, CHUNKED "20\r\n" SMUGGLED "\r\n0\r\n\r\n"),
    ROW("expect", 1, 0, POST CL5 "Expect: 100-continue\r\n" END "hello"),
    ROW("two empty lines before a request", 1, 0, "\r\n\r\n" GET H END),
    ROW("bare LF everywhere", 1, 0, "GET / HTTP/1.1\nHost: a\n\n"),
    ROW("bare LF everywhere, then CR LF everywhere", 2, 0, "GET / HTTP/1.1\nHost: a\n\n" GET H END),
    ROW("bare LF and a body", 2, 0, "POST / HTTP/1.1\nHost: a\nContent-Length: 1\n\nx" GET H END),
    ROW("bare LF in the head and CR LF in the chunks", 1, 0,
        "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n1\r\na\r\n0\r\n\r\n"),
    ROW("empty lines of LF before LF", 1, 0, "\n\nGET / HTTP/1.1\nHost: a\n\n"),
    ROW("a method that is new", 1, 0, "QUERY / HTTP/1.1\r\n" H END),
    ROW("a method of another protocol with a body", 2, 0,
        "VERSION-CONTROL / HTTP/1.1\r\n" H CL5 END "hello" GET H END),
    ROW("a method of llhttp's own with chunks", 1, 0, "SOURCE / HTTP/1.1\r\n" H TE END "0\r\n\r\n"),
    ROW("PRI as a method", 1, 0, "PRI / HTTP/1.1\r\n" H END),
    ROW("http/1.2", 1, 0, "GET / HTTP/1.2\r\n" H END),
    ROW("http/1.9 with a body", 1, 0, "POST / HTTP/1.9\r\n" H CL5 END "hello"),
    ROW("white space in chunk extensions", 1, 0, CHUNKED "1 ; a = b\r\na\r\n1\t;b\r\nb\r\n0 ; c\r\n\r\n"),
    ROW("a quoted pair in a chunk extension", 1, 0, CHUNKED "1;a=\"\\\"\\\\b\"\r\na\r\n0\r\n\r\n"),
    ROW("a semicolon in quotes", 1, 0, CHUNKED "1;a=\";\";b\r\na\r\n0\r\n\r\n"),
    ROW("an absolute target for another host", 1, 0, "GET http://b/ HTTP/1.1\r\n" H END),
    ROW("a comma in a host", 1, 0, GET "Host: a,b\r\n" END),
    ROW("32 fields nominated", 1, 0,
        GET H "Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,1,2,3,4,5,6\r\n" END),
    ROW("connection nominates a field", 1, 0, GET H "Connection: X-Mine\r\nX-Mine: 1\r\n" END),

    /* both lengths */
    ROW("CL.TE", 0, 400, POST "Content-Length: 6\r\n" TE END "0\r\n\r\nG"),
    ROW("TE.CL", 0, 400, POST TE "Content-Length: 4\r\n" END "5c\r\n" SMUGGLED),
    ROW("CL.TE with length 0", 0, 400, POST "Content-Length: 0\r\n" TE END "0\r\n\r\n"),
    ROW("CL.TE in other cases", 0, 400, POST "content-length: 6\r\ntransfer-encoding: Chunked\r\n" END),
    ROW("CL.TE in a get", 0, 400, GET H CL5 TE END),
    ROW("CL and a coding that is not chunked", 0, 400, POST CL5 "Transfer-Encoding: identity\r\n" END),

    /* several or odd lengths */
    ROW("two lengths that differ", 0, 400, POST CL5 "Content-Length: 6\r\n" END),
    ROW("two lengths that agree", 0, 400, POST CL5 CL5 END "hello"),
    ROW("three lengths", 0, 400, POST CL5 CL5 CL5 END "hello"),
    ROW("a list of lengths", 0, 400, POST "Content-Length: 5, 5\r\n" END),
    ROW("a list of lengths that differ", 0, 400, POST "Content-Length: 5, 6\r\n" END),
    ROW("a length and an empty one", 0, 400, POST CL5 "Content-Length:\r\n" END),
    ROW("a length with a plus", 0, 400, POST "Content-Length: +5\r\n" END),
    ROW("a negative length", 0, 400, POST "Content-Length: -5\r\n" END),
    ROW("a negative zero", 0, 400, POST "Content-Length: -0\r\n" END),
    ROW("a hexadecimal length", 0, 400, POST "Content-Length: 0x5\r\n" END),
    ROW("a length with a letter", 0, 400, POST "Content-Length: 5a\r\n" END),
    ROW("a length with a fraction", 0, 400, POST "Content-Length: 5.0\r\n" END),
    ROW("a length with an exponent", 0, 400, POST "Content-Length: 5e0\r\n" END),
    ROW("a length with a blank inside", 0, 400, POST "Content-Length: 1 0\r\n" END),
    ROW("a length with an underscore", 0, 400, POST "Content-Length: 1_0\r\n" END),
    ROW("a quoted length", 0, 400, POST "Content-Length: \"5\"\r\n" END),
    ROW("an empty length", 0, 400, POST "Content-Length:\r\n" END),
    ROW("a blank length", 0, 400, POST "Content-Length: \t \r\n" END),
    ROW("a length of 2^64", 0, 400, POST "Content-Length: 18446744073709551616\r\n" END),
    ROW("a length of 2^63", 0, 400, POST "Content-Length: 9223372036854775808\r\n" END),
    ROW("a length that wraps to 5", 0, 400, POST "Content-Length: 18446744073709551621\r\n" END),
    ROW("a length of 19 zeros and a 5", 0, 400, POST "Content-Length: 00000000000000000005\r\n" END),
    ROW("a length with a vertical tab", 0, 400, POST "Content-Length: \v5\r\n" END),
    ROW("a length with a form feed", 0, 400, POST "Content-Length: \f5\r\n" END),
    ROW("a length with a NUL", 0, 400, POST "Content-Length: 5\0\r\n" END),
    ROW("a length in full-width digits", 0, 400, POST "Content-Length: \xef\xbc\x95\r\n" END),
    ROW("a length with a comma behind", 0, 400, POST "Content-Length: 5,\r\n" END),
    ROW("a length with a semicolon", 0, 400, POST "Content-Length: 5;\r\n" END),
    ROW("content_length", 0, 400, POST "Content_Length: 5\r\n" END "hello"),
    ROW("a length and content_length", 0, 400, POST CL5 "Content_Length: 6\r\n" END),

    /* codings */
    ROW("two codings", 0, 400, POST TE TE END),
    ROW("chunked and identity in two fields", 0, 400, POST TE "Transfer-Encoding: identity\r\n" END),
    ROW("identity and chunked in two fields", 0, 400, POST "Transfer-Encoding: identity\r\n" TE END),
    ROW("chunked, identity", 0, 501, POST "Transfer-Encoding: chunked, identity\r\n" END),
    ROW("identity, chunked", 0, 501, POST "Transfer-Encoding: identity, chunked\r\n" END),
    ROW("chunked, chunked", 0, 501, POST "Transfer-Encoding: chunked, chunked\r\n" END),
    ROW("gzip, chunked", 0, 501, POST "Transfer-Encoding: gzip, chunked\r\n" END),
    ROW("gzip", 0, 501, POST "Transfer-Encoding: gzip\r\n" END),
    ROW("identity", 0, 501, POST "Transfer-Encoding: identity\r\n" END),
    ROW("an empty coding", 0, 501, POST "Transfer-Encoding:\r\n" END),
    ROW("xchunked", 0, 501, POST "Transfer-Encoding: xchunked\r\n" END),
    ROW("chunkedx", 0, 501, POST "Transfer-Encoding: chunkedx\r\n" END),
    ROW("chunked with a parameter", 0, 501, POST "Transfer-Encoding: chunked;a=b\r\n" END),
    ROW("chunked with a comma behind", 0, 501, POST "Transfer-Encoding: chunked,\r\n" END),
    ROW("chunked with a comma before", 0, 501, POST "Transfer-Encoding: ,chunked\r\n" END),
    ROW("chunked in quotes", 0, 501, POST "Transfer-Encoding: \"chunked\"\r\n" END),
    ROW("chunked in single quotes", 0, 501, POST "Transfer-Encoding: 'chunked'\r\n" END),
    ROW("chunked behind a vertical tab", 0, 400, POST "Transfer-Encoding: \vchunked\r\n" END),
    ROW("chunked behind a form feed", 0, 400, POST "Transfer-Encoding: \fchunked\r\n" END),
    ROW("chunked with a NUL", 0, 400, POST "Transfer-Encoding: chunked\0\r\n" END),
    ROW("chunked behind a NUL", 0, 400, POST "Transfer-Encoding: \0chunked\r\n" END),
    ROW("chunked with a byte beyond ASCII", 0, 501, POST "Transfer-Encoding: chunked\xa0\r\n" END),
    ROW("chunked with a Kelvin sign", 0, 501, POST "Transfer-Encoding: chun\342\204\252ed\r\n" END),
    ROW("a blank before the colon", 0, 400, POST "Transfer-Encoding : chunked\r\n" END),
    ROW("a tab before the colon", 0, 400, POST "Transfer-Encoding\t: chunked\r\n" END),
    ROW("a blank before the name", 0, 400, POST " Transfer-Encoding: chunked\r\n" END),
    ROW("a NUL before the colon", 0, 400, POST "Transfer-Encoding\0: chunked\r\n" END),
    ROW("a folded coding", 0, 400, POST "Transfer-Encoding:\r\n chunked\r\n" END),
    ROW("a coding folded by a tab", 0, 400, POST "Transfer-Encoding:\r\n\tchunked\r\n" END),
    ROW("a field that folds into a coding", 0, 400, POST "X: x\r\n Transfer-Encoding: chunked\r\n" END),
    ROW("transfer_encoding", 0, 400, POST "Transfer_Encoding: chunked\r\n" END),
    ROW("transfer encoding with a blank", 0, 400, POST "Transfer Encoding: chunked\r\n" END),
    ROW("a coding behind a bare LF", 0, 400, POST "X: x\nTransfer-Encoding: chunked\r\n" END),
    ROW("a coding behind a bare CR", 0, 400, POST "X: x\rTransfer-Encoding: chunked\r\n" END),
    ROW("a coding behind LF CR", 0, 400, POST "X: x\n\rTransfer-Encoding: chunked\r\n" END),
    ROW("a coding in http/1.0", 0, 400, "POST / HTTP/1.0\r\n" H TE END "0\r\n\r\n"),
    ROW("a coding in http/1.0 kept alive", 0, 400,
        "POST / HTTP/1.0\r\n" H "Connection: keep-alive\r\n" TE END "0\r\n\r\n"),

    /* lines and bytes */
    ROW("bare LF after the request line", 0, 400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ROW("bare LF at the end of the head", 0, 400, GET H "\n"),
    ROW("bare LF between fields", 0, 400, GET "Host: a\nX: y\r\n\r\n"),
    ROW("bare CR in a value", 0, 400, GET H "X: a\rb\r\n" END),
    ROW("bare CR at the end of the head", 0, 400, GET H "\rGET"),
    ROW("bare CR in the request line", 0, 400, "GET /\r HTTP/1.1\r\n" H END),
    ROW("CR CR LF", 0, 400, GET H "X: a\r\r\n" END),
    ROW("CR LF after the request line, then bare LF", 0, 400, GET "Host: a\n\n"),
    ROW("bare LF, then a bare CR", 0, 400, "GET / HTTP/1.1\nHost: a\nX: b\rc\n\n"),
    ROW("LF CR", 0, 400, GET H "\n\r\n"),
    ROW("a NUL in a value", 0, 400, GET H "X: a\0b\r\n" END),
    ROW("a NUL in a name", 0, 400, GET H "X\0Y: a\r\n" END),
    ROW("a NUL in the target", 0, 400, "GET /\0 HTTP/1.1\r\n" H END),
    ROW("a control character in a value", 0, 400, GET H "X: \x01\r\n" END),
    ROW("an escape in a value", 0, 400, GET H "X: \x1b[0m\r\n" END),
    ROW("DEL in a value", 0, 400, GET H "X: \x7f\r\n" END),
    ROW("three empty lines before a request", 0, 400, "\r\n\r\n\r\n" GET H END),
    ROW("an LF and a CR LF before a request of LF", 0, 400, "\n\r\nGET / HTTP/1.1\nHost: a\n\n"),
    ROW("an LF before a request", 0, 400, "\n" GET H END),
    ROW("a blank before a request", 0, 400, " " GET H END),
    ROW("a TLS handshake", 0, 400, "\x16\x03\x01\x02\x00\x01\x00"),
    ROW("an HTTP/2 preface", 0, 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ROW("a PROXY protocol line", 0, 400, "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" GET H END),
    ROW("a folded first field", 0, 400, GET " Host: a\r\n" END),
    ROW("a folded field", 0, 400, GET H "X: a\r\n b\r\n" END),
    ROW("a line of blanks", 0, 400, GET H "  \r\n" END),
    ROW("a field without a colon", 0, 400, GET H "X\r\n" END),
    ROW("a field without a name", 0, 400, GET H ": a\r\n" END),
    ROW("a blank in a name", 0, 400, GET H "X Y: a\r\n" END),
    ROW("a parenthesis in a name", 0, 400, GET H "X(: a\r\n" END),
    ROW("a byte beyond ASCII in a name", 0, 400, GET H "X\xe9: a\r\n" END),
    ROW("a quote in a name", 0, 400, GET H "\"X\": a\r\n" END),

    /* request lines */
    ROW("http/0.9", 0, 400, "GET /\r\n\r\n"),
    ROW("no version", 0, 400, "GET / \r\n" H END),
    ROW("two blanks before the target", 0, 400, "GET  / HTTP/1.1\r\n" H END),
    ROW("two blanks before the version", 0, 400, "GET /  HTTP/1.1\r\n" H END),
    ROW("a blank behind the version", 0, 400, "GET / HTTP/1.1 \r\n" H END),
    ROW("a tab in the request line", 0, 400, "GET\t/ HTTP/1.1\r\n" H END),
    ROW("a blank in the target", 0, 400, "GET /a b HTTP/1.1\r\n" H END),
    ROW("a second version in the target", 0, 400, "GET / HTTP/1.1 HTTP/1.1\r\n" H END),
    ROW("a fragment", 0, 400, "GET /#x HTTP/1.1\r\n" H END),
    ROW("a byte beyond ASCII in the target", 0, 400, "GET /\xe9 HTTP/1.1\r\n" H END),
    ROW("a relative target", 0, 400, "GET x HTTP/1.1\r\n" H END),
    ROW("no target", 0, 400, "GET HTTP/1.1\r\n" H END),
    ROW("* in a get", 0, 400, "GET * HTTP/1.1\r\n" H END),
    ROW("a target with another scheme", 0, 400, "GET ftp://a/ HTTP/1.1\r\n" H END),
    ROW("an absolute target without a host", 0, 400, "GET http:///x HTTP/1.1\r\n" H END),
    ROW("an absolute target for another host, with a bad one", 0, 400,
        "GET http://b/ HTTP/1.1\r\nHost: a/b\r\n" END),
    ROW("an absolute target and two hosts", 0, 400, "GET http://b/ HTTP/1.1\r\n" H "Host: b\r\n" END),
    ROW("an absolute target and no host", 0, 400, "GET http://b/ HTTP/1.1\r\n" END),
    ROW("user information in an absolute target", 0, 400, "GET http://b@a/ HTTP/1.1\r\n" H END),
    ROW("connect with a path", 0, 400, "CONNECT / HTTP/1.1\r\n" H END),
    ROW("connect without a port", 0, 400, "CONNECT a HTTP/1.1\r\n" H END),
    ROW("connect with a body", 0, 400, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" CL5 END),
    ROW("http/2.0", 0, 505, "GET / HTTP/2.0\r\n" H END),
    ROW("http/0.9 spelled out", 0, 505, "GET / HTTP/0.9\r\n" H END),
    ROW("http/1", 0, 400, "GET / HTTP/1\r\n" H END),
    ROW("http/11", 0, 400, "GET / HTTP/11\r\n" H END),
    ROW("http/1.10", 0, 400, "GET / HTTP/1.10\r\n" H END),
    ROW("http/01.1", 0, 400, "GET / HTTP/01.1\r\n" H END),
    ROW("http in small letters", 0, 400, "GET / http/1.1\r\n" H END),
    ROW("a version with a comma", 0, 400, "GET / HTTP/1,1\r\n" H END),
    ROW("another method in small letters", 0, 501, "Head / HTTP/1.1\r\n" H END),
    ROW("connect in small letters", 0, 501, "connect a:1 HTTP/1.1\r\nHost: a:1\r\n" END),
    ROW("a method in small letters", 0, 501, "get / HTTP/1.1\r\n" H END),
    ROW("a method with a colon", 0, 400, "GET: / HTTP/1.1\r\n" H END),

    /* hosts */
    ROW("no host", 0, 400, GET END),
    ROW("two hosts", 0, 400, GET H "Host: b\r\n" END),
    ROW("twice the same host", 0, 400, GET H H END),
    ROW("a host with a blank", 0, 400, GET "Host: a b\r\n" END),
    ROW("a list of hosts", 0, 400, GET "Host: a, b\r\n" END),
    ROW("a host with a path", 0, 400, GET "Host: a/b\r\n" END),
    ROW("a host with user information", 0, 400, GET "Host: a@b\r\n" END),
    ROW("a host with a query", 0, 400, GET "Host: a?b\r\n" END),
    ROW("a host with a backslash", 0, 400, GET "Host: a\\b\r\n" END),
    ROW("a host beyond ASCII", 0, 400, GET "Host: \xc3\xa9\r\n" END),
    ROW("a blank before host's colon", 0, 400, GET "Host : a\r\n" END),

    /* chunks */
    ROW("no chunk size", 0, 400, CHUNKED "\r\n"),
    ROW("a chunk size with 0x", 0, 400, CHUNKED "0x5\r\nhello\r\n"),
    ROW("a negative chunk size", 0, 400, CHUNKED "-1\r\n"),
    ROW("a chunk size with a plus", 0, 400, CHUNKED "+5\r\nhello\r\n"),
    ROW("a chunk size with a letter behind", 0, 400, CHUNKED "5g\r\nhello\r\n"),
    ROW("a chunk size that wraps", 0, 400, CHUNKED "10000000000000005\r\nhello\r\n"),
    ROW("a chunk size of 2^63", 0, 400, CHUNKED "8000000000000000\r\n"),
    ROW("a chunk size of 16 zeros", 0, 400, CHUNKED "0000000000000000\r\n\r\n"),
    ROW("a blank before the chunk size", 0, 400, CHUNKED " 5\r\nhello\r\n"),
    ROW("a blank behind the chunk size", 0, 400, CHUNKED "5 \r\nhello\r\n"),
    ROW("a tab behind the chunk size", 0, 400, CHUNKED "5\t\r\nhello\r\n"),
    ROW("a bare LF behind the chunk size", 0, 400, CHUNKED "5\nhello\r\n0\r\n\r\n"),
    ROW("a bare CR behind the chunk size", 0, 400, CHUNKED "5\rhello\r\n0\r\n\r\n"),
    ROW("a chunk extension whose quotes stay open", 0, 400, CHUNKED "5;a=\"b\r\nhello\r\n0\r\n\r\n"),
    ROW("a chunk extension whose quotes stay open behind a quoted pair", 0, 400,
        CHUNKED "5;a=\"b\\\"\r\nhello\r\n0\r\n\r\n"),
    ROW("a quoted CR in a chunk extension", 0, 400, CHUNKED "5;a=\"\\\r\nhello\r\n0\r\n\r\n"),
    ROW("a chunk extension without a semicolon", 0, 400, CHUNKED "5 a\r\nhello\r\n0\r\n\r\n"),
    ROW("a bare LF behind a chunk size in a head of LF", 0, 400,
        "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n1\na\n0\n\n"),
    ROW("a bare LF in a chunk extension", 0, 400, CHUNKED "5;a\nhello\r\n0\r\n\r\n"),
    ROW("a bare CR in a chunk extension", 0, 400, CHUNKED "5;a\rb\r\nhello\r\n"),
    ROW("a NUL in a chunk extension", 0, 400, CHUNKED "5;\0\r\nhello\r\n"),
    ROW("a bare LF behind a chunk", 0, 400, CHUNKED "5\r\nhello\n0\r\n\r\n"),
    ROW("a bare CR behind a chunk", 0, 400, CHUNKED "5\r\nhello\r0\r\n\r\n"),
    ROW("a chunk longer than its size", 0, 400, CHUNKED "5\r\nhelloo\r\n0\r\n\r\n"),
    ROW("a chunk shorter than its size", 0, 400, CHUNKED "5\r\nhell\r\n0\r\n\r\n"),
    ROW("two bytes for CR LF behind a chunk", 0, 400, CHUNKED "5\r\nhelloXX0\r\n\r\n"),
    ROW("an LF for the end of the trailers", 0, 400, CHUNKED "0\r\n\n"),
    ROW("a CR for the end of the trailers", 0, 400, CHUNKED "0\r\n\rG"),
    ROW("a folded trailer", 0, 400, CHUNKED "0\r\nX: a\r\n b\r\n\r\n"),
    ROW("a trailer with a bare LF", 0, 400, CHUNKED "0\r\nX: a\nY: b\r\n\r\n"),
    ROW("a trailer without a colon", 0, 400, CHUNKED "0\r\nX\r\n\r\n"),
    ROW("a trailer with a blank before the colon", 0, 400, CHUNKED "0\r\nX : a\r\n\r\n"),
    ROW("a trailer with a NUL", 0, 400, CHUNKED "0\r\nX: \0\r\n\r\n"),
    ROW("a length in the trailers", 0, 400, CHUNKED "0\r\nContent-Length: 5\r\n\r\n"),
    ROW("a length in the trailers, disguised", 0, 400, CHUNKED "0\r\ncontent_LENGTH: 5\r\n\r\n"),
    ROW("a coding in the trailers", 0, 400, CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ROW("a host in the trailers", 0, 400, CHUNKED "0\r\nHost: b\r\n\r\n"),
    ROW("a request behind the last chunk without an empty line", 0, 400,
        CHUNKED "0\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"),
    ROW("a request in place of a chunk", 0, 400, CHUNKED SMUGGLED),

    /* connection */
    ROW("connection nominates host", 0, 400, GET H "Connection: host\r\n" END),
    ROW("connection nominates the length", 0, 400, POST CL5 "Connection: close, Content-Length\r\n" END),
    ROW("connection nominates the coding", 0, 400, POST TE "Connection: Transfer-Encoding\r\n" END),
    ROW("a bad request behind a good one", 1, 400, GET H END GET END),
    ROW("a smuggled request behind a length", 2, 0, POST CL5 END "hello" SMUGGLED),
    ROW("a length one short", 2, 0, POST CL5 END "helloXGET / HTTP/1.1\r\n" H END),
    ROW("33 fields nominated", 0, 400,
        GET H "Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,1,2,3,4,5,6,7\r\n" END),
};

#undef H
#undef GET
#undef POST
#undef CL5
#undef TE
#undef END
#undef SMUGGLED
#undef CHUNKED
#undef ROW

#endif
