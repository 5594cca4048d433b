#!/bin/sh
# Shows that includes.sh finds a breach: plants one at a time in a tree that is otherwise in order.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cd "$tree"
mkdir -p reaper/policy reaper/kernel conf bench proxy/loop proxy/shared proxy/session proxy/worker proxy/command tests/unit

# FILE LINE...: writes a file of these lines.
write()
{
    file=$1
    shift
    printf '%s\n' "$@" >"$file"
}

write reaper/policy/pair.h '#include "reaper/error.h"' '#include <stdint.h>'
write reaper/policy/pair.c '#include "reaper/policy/pair.h"' '#include "reaper/policy/half.h"' '#include <assert.h>'
write reaper/kernel/diag.c '#include "reaper/error.h"' '#include <linux/sock_diag.h>' '#include <sys/socket.h>'
write conf/load.c '#include "conf/conf.h"' '#include "reaper/policy/pair.h"' '#include <libfyaml.h>'
write proxy/session/relay.c '#include "proxy/shared/counters.h"' '#include "conf/conf.h"' '#include <uv.h>'
write proxy/command/run.c '#include "proxy/worker/worker.h"' '#include "bench/leak.h"' '#include "version.h"'
write proxy/main.c '#include "proxy/command/command.h"' '#include "version.h"'
write tests/unit/pair_test.c '#include "reaper/kernel/diag.h"' '#include <cmocka.h>'
sh "$here/includes.sh" . || {
    echo "a tree that is in order is refused"
    exit 1
}

failed=0
# FILE INCLUDE: what must not be accepted.
while read -r file include; do
    write "$file" '' "#include $include"
    if sh "$here/includes.sh" . >found; then
        echo "not found: $file with $include"
        failed=1
    elif ! grep -q "^$file:2: " found; then
        echo "found without its place: $file with $include"
        failed=1
    fi
    rm "$file"
done <<'END'
reaper/policy/wheel.c   "reaper/kernel/diag.h"
reaper/policy/wheel.c   "conf/conf.h"
reaper/policy/wheel.c   <uv.h>
reaper/kernel/owner.c   "reaper/policy/pair.h"
reaper/kernel/owner.c   <jansson.h>
reaper/kernel/owner.h   "proxy/session/session.h"
reaper/error.c          "bench/leak.h"
reaper/error.c          <uthash.h>
conf/option.c           "proxy/session/session.h"
conf/option.c           "bench/leak.h"
conf/option.c           <uv.h>
conf/option.c           <llhttp.h>
bench/leak.c            "proxy/session/session.h"
bench/leak.c            "conf/conf.h"
proxy/loop/loop.c       "proxy/session/session.h"
proxy/loop/loop.c       "conf/conf.h"
proxy/loop/loop.c       <llhttp.h>
proxy/session/session.c "proxy/worker/worker.h"
proxy/session/session.c "proxy/command/command.h"
proxy/session/session.c "bench/leak.h"
proxy/session/session.c <libfyaml.h>
proxy/shared/page.c     "proxy/session/session.h"
proxy/shared/page.c     "proxy/command/command.h"
proxy/log.c             "proxy/session/session.h"
proxy/command/top.c     "tests/unit/cmocka.h"
proxy/session/session.c "session.h"
proxy/session/session.c "../shared/counters.h"
reaper/policy/pair.c    "reaper/policy/half.h"
END
exit $failed
