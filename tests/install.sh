#!/bin/sh
# Installs what the tests need on top of what building needs. Starts no service.
set -eu

packages="$(sed 's/#.*//' <<'END'
git                 # the list of the project's own files
libcmocka-dev       # unit tests
clang               # the second compiler
clang-format        # static checks
clang-tidy
shellcheck
libclang-rt-14-dev  # the sanitizers' runtime for clang
valgrind            # unit tests without a sanitizer in the way
python3             # clients, servers and measurements
procps              # ps
util-linux          # unshare, for network namespaces
iproute2            # ss, the second opinion on what the kernel holds; ip
iptables            # clients that vanish: a filter in a namespace of the test's own
curl                # real clients and servers
netcat-openbsd
redis-server
redis-tools
postgresql
postgresql-contrib
rsync
openssh-server      # ssh, and git over it
openssh-client
git
nodejs              # services that leak
default-jdk-headless
nginx-light
libnginx-mod-stream
haproxy
wrk
apache2-utils       # ab
tcpdump             # the second opinion on what bench measures
END
)"

# shellcheck disable=SC2086 # the list is words
exec sh "$(dirname "$0")/../proxy/install.sh" $packages
