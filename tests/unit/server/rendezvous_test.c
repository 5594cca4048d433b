#include "tests/unit/cmocka.h"

#include "proxy/server/rendezvous.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

static struct conf_address server4(uint32_t host, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host), .sin_port = htons(port)};
    struct conf_address address = {.length = sizeof in};
    memcpy(&address.address, &in, sizeof in);
    return address;
}

static struct conf_address server6(unsigned char last, uint32_t flow)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_flowinfo = flow};
    struct conf_address address = {.length = sizeof in6};
    in6.sin6_addr.s6_addr[15] = last;
    memcpy(&address.address, &in6, sizeof in6);
    return address;
}

static struct conf_address server_path(const char *path, char behind)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct conf_address address = {.length = sizeof un};
    memset(un.sun_path, behind, sizeof un.sun_path);
    memcpy(un.sun_path, path, strlen(path) + 1);
    memcpy(&address.address, &un, sizeof un);
    return address;
}

static void a_server_is_its_address_and_nothing_else_of_the_structure(void **state)
{
    struct conf_address one = server4(1, 80), host = server4(2, 80), port = server4(1, 81), padded = one;
    struct conf_address one6 = server6(1, 0), flow6 = server6(1, 7), other6 = server6(2, 0);
    struct conf_address path = server_path("/run/a", 'x'), same = server_path("/run/a", 'y'),
                        other = server_path("/run/b", 'x');
    (void)state;
    ((struct sockaddr_in *)&padded.address)->sin_zero[3] = 1;
    assert_true(rendezvous_server(&one) == rendezvous_server(&padded));
    assert_true(rendezvous_server(&one) != rendezvous_server(&host));
    assert_true(rendezvous_server(&one) != rendezvous_server(&port));
    assert_true(rendezvous_server(&one6) == rendezvous_server(&flow6));
    assert_true(rendezvous_server(&one6) != rendezvous_server(&other6));
    assert_true(rendezvous_server(&path) == rendezvous_server(&same));
    assert_true(rendezvous_server(&path) != rendezvous_server(&other));
}

static union socket_address client(uint32_t host, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host), .sin_port = htons(port)};
    union socket_address address = {0};
    memcpy(address.bytes, &in, sizeof in);
    return address;
}

enum { SERVERS = 20, CLIENTS = 100000 };

static void each_server_has_its_share_of_clients_and_of_those_of_one_that_goes(void **state)
{
    uint64_t servers[SERVERS];
    unsigned first[SERVERS] = {0}, second_of_0[SERVERS] = {0};
    (void)state;
    for (uint32_t i = 0; i < SERVERS; i++) {
        struct conf_address address = server4(0x0a000000 + i, 80);
        servers[i] = rendezvous_server(&address);
    }
    for (uint32_t c = 0; c < CLIENTS; c++) {
        union socket_address from = client(0xc0a80000 + c, (uint16_t)c), again = client(0xc0a80000 + c, 1);
        uint64_t hash = rendezvous_client(&from);
        size_t best = 0, second = 1;
        assert_true(hash == rendezvous_client(&again));
        for (size_t i = 0; i < SERVERS; i++)
            best = rendezvous_score(hash, servers[i]) > rendezvous_score(hash, servers[best]) ? i : best;
        for (size_t i = 1; i < SERVERS; i++)
            second =
                rendezvous_score(hash, servers[i]) > rendezvous_score(hash, servers[second]) ? i : second;
        first[best]++;
        second_of_0[second] += best == 0;
    }
    for (size_t i = 0; i < SERVERS; i++)
        assert_in_range(first[i], CLIENTS / SERVERS * 9 / 10, CLIENTS / SERVERS * 11 / 10);
    for (size_t i = 1; i < SERVERS; i++)
        assert_in_range(second_of_0[i], first[0] / SERVERS / 2, first[0] * 2 / SERVERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_is_its_address_and_nothing_else_of_the_structure),
        cmocka_unit_test(each_server_has_its_share_of_clients_and_of_those_of_one_that_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
