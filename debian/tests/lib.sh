# What the tests share.  SPDX-License-Identifier: Apache-2.0
dir=$(mktemp -d)
fail() { echo "FAIL: $*"; exit 1; }
soon() { # COMMAND...: true within a minute
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    return 1
}
arrives() { # HOST PORT HOST PORT ARGUMENTS...: a message published there (with ARGUMENTS) arrives here
    topic=test/$$-$1-$2-$4
    from=$1 from_port=$2 to=$3 to_port=$4
    shift 4
    mosquitto_pub -V 5 -h "$from" -p "$from_port" "$@" -t "$topic" -q 1 -r -m hello || return 1
    timeout 60 mosquitto_sub -V 5 -h "$to" -p "$to_port" "$@" -t "$topic" -q 1 -C 1 | grep -qx hello
}
