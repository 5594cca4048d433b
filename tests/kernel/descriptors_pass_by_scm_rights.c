/* A message over a unix socket carries 253 descriptors and no more. unix(7), SCM_RIGHTS; include/net/scm.h,
 * SCM_MAX_FD. */
#include "tests/kernel/fact.h"

#include <sys/un.h>

enum { MOST = 253 };

static ssize_t pass(int from, int to, int count)
{
    static _Alignas(struct cmsghdr) char out[CMSG_SPACE(sizeof(int) * (MOST + 1))], in[sizeof out];
    char byte = 'x';
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = out,
                             .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
    for (int i = 0; i < count; i++)
        memcpy(CMSG_DATA(header) + (size_t)i * sizeof(int), &from, sizeof from);
    if (sendmsg(from, &message, 0) < 0)
        return -1;
    struct msghdr got = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = in, .msg_controllen = sizeof in};
    fact_need((int)recvmsg(to, &got, MSG_CMSG_CLOEXEC), "recvmsg");
    header = CMSG_FIRSTHDR(&got);
    return header ? (ssize_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0;
}

int main(void)
{
    int ends[2];
    fact_need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    ssize_t passed = pass(ends[0], ends[1], MOST);
    if (passed != MOST)
        fact_fails("%zd of %d descriptors arrive", passed, MOST);
    if (pass(ends[0], ends[1], MOST + 1) >= 0)
        fact_fails("%d descriptors go into one message", MOST + 1);
    fact_holds("A message carries %d descriptors, and one more is refused.", MOST);
}
