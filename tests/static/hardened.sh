#!/bin/sh
# The program was built with what makes a hole harder to use. Takes the program; reads it with readelf(1).
set -eu
export LC_ALL=C
program=$1
failed=0

# WHAT PATTERN: what readelf must say.
expect()
{
    echo "$said" | grep -q "$2" || {
        echo "$program: $1"
        failed=1
    }
}

said=$(readelf --wide --file-header --program-headers --dynamic --dyn-syms --notes "$program")
expect 'not position-independent' '^ *Type: *DYN (Position-Independent Executable file)'
expect 'relocations stay writable (-z relro)' '^ *GNU_RELRO '
expect 'addresses are looked up while it runs (-z now)' 'BIND_NOW'
expect 'no checked string functions (_FORTIFY_SOURCE)' '__[a-z]*_chk@'
expect 'no guarded stack (-fstack-protector)' '__stack_chk_fail@'
expect 'the stack may be executed' '^ *GNU_STACK .* RW  *0x'
if echo "$said" | grep -E '\((RPATH|RUNPATH)\)'; then
    echo "$program: looks for libraries in a folder of its own"
    failed=1
fi
if readelf --file-header "$program" | grep -q 'Machine:.*X86-64'; then
    # Not the note that says so of the whole program: where libc's start files have none, the linker drops it.
    said=$(objdump --disassemble=main "$program" | grep -A 1 '<main>:$')
    expect 'branches may land anywhere (-fcf-protection)' 'endbr64'
fi
exit $failed
