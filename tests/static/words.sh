#!/bin/sh
# No file names a place that only one machine has, a document that is not here, or how the text came about: it has
# to make sense to whoever reads it anywhere. (The brackets keep this file from finding itself.)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
words='/wor[k]/
/tmp/[w]/
/roo[t]/
deb\.debia[n]\.org
pypi\.or[g]
registry\.np[m]js
crates\.i[o]
proxy\.golan[g]\.org
(DESIG[N]|TEARDOW[N]|STYL[E]|PEER[S])\.md
claud[e]
anthropi[c]
opena[i]
chatgp[t]
copilo[t]
language mode[l]
(ai|llm)[-]generated
coding agen[t]'
breaches=$(sh "$here/files.sh" . | xargs grep -InEi "$words" || true)
[ -z "$breaches" ] || {
    echo "$breaches"
    exit 1
}
