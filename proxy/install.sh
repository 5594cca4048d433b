#!/bin/sh
# Installs what building and running lastack needs and this machine lacks, by the names of Debian 12's packages,
# and with it the packages given as arguments. Says nothing when nothing is missing. Root, or a user with sudo.
set -eu

packages="$(sed 's/#.*//' <<'END'
build-essential   # the compiler and libc's headers
cmake             # 3.25 or later, for the presets
ninja-build       # what the presets build with
pkg-config        # finds the libraries
libuv1-dev        # the event loop
node-llhttp       # HTTP/1, as C sources that the build compiles
libfyaml-dev      # YAML with line and column in every error
libjansson-dev    # JSON
libcap-ng-dev     # probing for and dropping privileges
libseccomp-dev    # filters of system calls
uthash-dev        # hash tables, headers only
END
) $*"

fail()
{
    echo "$(basename "$0"): $*" >&2
    exit 1
}

installed()
{
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $packages; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || fail "no apt-get here; install by other means what Debian calls:$missing"
sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "neither root nor sudo; as root run: apt-get install$missing"
    sudo=sudo
fi

# None of the servers among the packages is to be started: the tests run their own, elsewhere.
# https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '$sudo rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
    $sudo chmod 755 $policy
fi

echo "installing:$missing"
log=$(mktemp)
# Old package lists name files that the mirrors no longer have, and a fresh machine has none at all.
# shellcheck disable=SC2086 # the list is words
if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive \
       apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    fail "apt-get failed, see above and $log; still missing:$missing"
fi
rm -f "$log"
