#!/bin/bash
# the two commands of the README on a fresh Debian 12; LAB_CHECK=1: scripts/check too, which takes its time
mkdir -p "$LAB_SHARE/source"
git archive HEAD | tar -x -C "$LAB_SHARE/source"
"$HOSTS" kill h1
rm -rf "$LAB_DIR/h1/upper" # the disk as it was before the first boot
"$HOSTS" up 1 || return
T=900
check "scripts/install-deps demo installs what is missing" "$HOSTS" online h1 bash -c \
    'cp -r /lab/source /root/bilrost && cd /root/bilrost && apt-get -qq update && scripts/install-deps demo'
check "scripts/demo builds, kills, and every message arrives" on h1 'cd /root/bilrost && scripts/demo'
tail -n 3 "$out" | sed 's/^/     /'
check "it left no process behind" on h1 '! pgrep -x bilrostd && ! pgrep -x bilrost-bench'
if [ -n "${LAB_CHECK:-}" ]; then
    T=3600
    check "scripts/install-deps check" "$HOSTS" online h1 bash -c 'cd /root/bilrost && scripts/install-deps check'
    check "scripts/check passes" on h1 'cd /root/bilrost && CHECK_LAB= scripts/check'
    tail -n 3 "$out" | sed 's/^/     /'
fi
T=120
