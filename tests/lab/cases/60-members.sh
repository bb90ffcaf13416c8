#!/bin/bash
# a fourth host joins; one leaves
check "h4 boots" "$HOSTS" up 4
use_repo h4
check "h4: apt-get install" apt h4 install bilrost
if [ "${made_by:-}" = bilrost-setup ]; then
    line=$(on h1 'bilrost-setup token' 2>&1 | grep -o 'bilrost-setup join.*' | tail -1)
    check "h4: bilrost-setup join" on h4 "$line --host $(address_of h4)"
else
    cluster_conf h4
fi
listen_lab h4
check "h4 serves" soon 60 is_serving h4
check "h1 counts four members" soon 20 on h1 'test $(bilrostctl cluster | grep -c "10.77.0.1[1234]") -ge 4'
bench leave 1 30 h1 h2 h4
sleep 3
if [ "${made_by:-}" = bilrost-setup ]; then
    check "h3 leaves" on h3 'bilrost-setup leave'
else
    check "h3 leaves" on h3 'systemctl disable -q --now bilrostd'
fi
check "h3 is gone" soon 40 on h1 '! bilrostctl cluster | grep "10.77.0.13" | grep -q alive'
for h in h1 h2 h4; do check "$h serves" soon 40 is_serving $h; done
check "nothing acknowledged was lost when one left" bench_good leave
show
