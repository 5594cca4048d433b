#!/bin/sh
# Holds every #include to the arrows between the parts:
#
#   proxy -> conf -> reaper     proxy -> reaper     proxy/command -> bench
#   within proxy:  command -> patrol, worker -> entry -> exchange -> session -> server -> http, shared -> socket, loop;
#                  patrol -> the log of shared
#   within reaper: policy and kernel do not know each other
#
# A part may use libc and the kernel's headers; libraries only where its row says so. Takes another root for the
# test of this test.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=${1:-$here/../..}

# PART | what it may include of the project | libraries. A file belongs to the first part its name begins with.
parts='
reaper/policy/ | reaper/policy/ reaper/error.h reaper/words.h |
reaper/kernel/ | reaper/kernel/ reaper/error.h reaper/array.h reaper/words.h |
reaper/        | reaper/ |
conf/          | conf/ reaper/ | libfyaml.h uthash.h
bench/         | bench/ reaper/ | uv.h llhttp.h jansson.h uthash.h
proxy/loop/     | proxy/loop/ reaper/policy/wheel.h reaper/container.h | uv.h utlist.h
proxy/socket/   | proxy/socket/ conf/ reaper/ | uv.h
proxy/shared/   | proxy/shared/ proxy/socket/ proxy/loop/ conf/ reaper/ | uv.h
proxy/http/     | proxy/http/ conf/ reaper/ | llhttp.h
proxy/server/   | proxy/server/ proxy/http/ proxy/shared/ proxy/socket/ proxy/loop/ conf/ reaper/ | uv.h uthash.h utlist.h
proxy/session/  | proxy/session/ proxy/server/ proxy/shared/ proxy/socket/ proxy/loop/ conf/ reaper/ | uv.h utlist.h
proxy/exchange/ | proxy/exchange/ proxy/session/ proxy/server/ proxy/http/ proxy/shared/ proxy/socket/ proxy/loop/ conf/ reaper/ | uv.h
proxy/entry/    | proxy/entry/ proxy/session/ proxy/exchange/ proxy/http/ proxy/server/ proxy/shared/ proxy/socket/ proxy/loop/ conf/ reaper/ | uv.h
proxy/worker/   | proxy/worker/ proxy/entry/ proxy/exchange/ proxy/session/ proxy/server/ proxy/http/ proxy/shared/ proxy/socket/ proxy/loop/ conf/ reaper/ | uv.h utlist.h
proxy/patrol/   | proxy/patrol/ proxy/shared/line.h proxy/shared/log.h conf/ reaper/ | uv.h
proxy/command/ | proxy/ bench/ conf/ reaper/ version.h syscalls.h | uv.h jansson.h uthash.h ncurses.h cap-ng.h seccomp.h systemd/
proxy/         | proxy/command/command.h proxy/command/process.h version.h |
'

libc='sys/ linux/ asm/ net/ netinet/ arpa/
argp.h assert.h ctype.h dirent.h dlfcn.h elf.h endian.h err.h errno.h execinfo.h fcntl.h fnmatch.h getopt.h glob.h grp.h
ifaddrs.h inttypes.h limits.h locale.h malloc.h math.h netdb.h poll.h pthread.h pwd.h regex.h sched.h search.h
semaphore.h setjmp.h signal.h spawn.h stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h
stdnoreturn.h string.h strings.h syslog.h termios.h threads.h time.h ucontext.h unistd.h wchar.h'

cd "$root"
sh "$here/files.sh" . | grep '^[a-z]*/.*\.[ch]$' | grep -v '^tests/' |
    PARTS=$parts LIBC=$libc awk '
    # Whether the name is in the list, where an entry that ends in / stands for all below it.
    function listed(name, list,    words, n, i) {
        n = split(list, words, /[ \n]+/)
        for (i = 1; i <= n; i++)
            if (words[i] == name || (words[i] ~ /\/$/ && index(name, words[i]) == 1))
                return 1
        return 0
    }

    function breach(file, line, text) {
        printf "%s:%d: %s\n", file, line, text
        breaches++
    }

    function check_project(file, line, name, part) {
        if (name !~ /\// && name != "version.h" && name != "syscalls.h")
            breach(file, line, "\"" name "\" is not written from the root of the project")
        else if (!listed(name, project[part]))
            breach(file, line, part " may not include \"" name "\", only: " project[part])
    }

    function check_system(file, line, name, part) {
        if (!listed(name, ENVIRON["LIBC"]) && !listed(name, libraries[part]))
            breach(file, line, part " may not include <" name ">, only libc, the kernel and: " libraries[part])
    }

    function check_file(file, part,    text, line, first, own, name) {
        own = file
        sub(/\.c$/, ".h", own)
        while ((getline text < file) > 0) {
            line++
            if (text !~ /^[ \t]*#[ \t]*include/)
                continue
            name = text
            gsub(/^[^"<]*["<]|[">].*$/, "", name)
            if (!first && file ~ /\.c$/ && own in exists && name != own)
                breach(file, line, "the first include is not its own header, \"" own "\"")
            first = 1
            if (text ~ /"/)
                check_project(file, line, name, part)
            else
                check_system(file, line, name, part)
        }
        close(file)
    }

    BEGIN {
        rows = split(ENVIRON["PARTS"], row, "\n")
        for (i = 1; i <= rows; i++) {
            if (split(row[i], column, /[ ]*[|][ ]*/) < 2)
                continue
            parts[++count] = column[1]
            project[column[1]] = column[2]
            libraries[column[1]] = column[3]
        }
    }
    { exists[$0] }
    END {
        for (file in exists) {
            for (i = 1; i <= count && index(file, parts[i]) != 1;)
                i++
            if (i > count)
                breach(file, 1, "belongs to no part; give its folder a row in tests/static/includes.sh")
            else
                check_file(file, parts[i])
        }
        exit breaches > 0
    }'
