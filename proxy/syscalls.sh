#!/bin/sh
# Makes the header of allowed system calls from the comments "#syscalls GROUP: NAME..." in the sources that are given.
# Writes OUTPUT only when that changes it. See proxy/command/sandbox.h.
set -eu
output=$1
shift

# "GROUP NAME", each once, from comments as "/* #syscalls worker: read write */".
awk '
    /#syscalls [a-z]+:/ {
        text = $0
        sub(/^.*#syscalls /, "", text)
        sub(/\*\/.*$/, "", text)
        colon = index(text, ":")
        group = substr(text, 1, colon - 1)
        count = split(substr(text, colon + 1), names, /[ \t]+/)
        for (i = 1; i <= count; i++)
            if (names[i] ~ /^[a-z0-9_]+$/)
                calls[group " " names[i]]
            else if (names[i] != "") {
                print FILENAME ": no name of a system call: " names[i] > "/dev/stderr"
                failed = 1
            }
    }
    END {
        for (call in calls)
            print call
        exit failed
    }' "$@" >"$output.calls"

LC_ALL=C sort "$output.calls" | awk '
    { text[$1] = text[$1] "    X(" $2 ") \\\n" }
    END {
        print "/* Made by proxy/syscalls.sh. */"
        groups = split("worker rest finish names quiet", group, " ")
        for (i = 1; i <= groups; i++) {
            printf "#define SYSCALLS_%s(X) \\\n%s\n", toupper(group[i]), text[group[i]]
            delete text[group[i]]
        }
        for (other in text) {
            print "no such group: " other > "/dev/stderr"
            exit 1
        }
    }' >"$output.new"
rm "$output.calls"
if cmp -s "$output.new" "$output"; then
    rm "$output.new"
else
    mv "$output.new" "$output"
fi
