#!/bin/sh
# Every shell script is for any POSIX sh, and has nothing in it that shellcheck would warn of.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
scripts=$(sh "$here/files.sh" . | xargs awk 'FNR == 1 && /^#!.*[ \/](ba|da)?sh/ { print FILENAME } { nextfile }')
failed=0
for script in $scripts; do
    head -n 1 "$script" | grep -qx '#!/bin/sh' || {
        echo "$script:1: not #!/bin/sh"
        failed=1
    }
    sh -n "$script" || failed=1
    shellcheck --shell=dash --severity=warning "$script" || failed=1
done
exit $failed
