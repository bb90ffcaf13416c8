#!/bin/bash
# dnf on three hosts, the three commands, a rolling upgrade and downgrade under load
for h in h1 h2 h3; do
    on $h 'systemctl disable -q --now bilrostd; dnf -y -q remove bilrost; rm -rf /var/lib/bilrost* /etc/bilrost' >/dev/null 2>&1
    check "$h: dnf install bilrost" on $h 'dnf -y -q install bilrost'
done
on h1 "bilrost-setup init --env lab --host $(address_of h1)" >"$work/join" 2>"$work/init.err"
line=$(grep -h '^bilrost-setup join' "$work/join")
check "bilrost-setup init prints a join line" test -n "$line"
for h in h2 h3; do check "$h: $(echo "$line" | cut -c1-40)..." on $h "$line --host $(address_of $h)"; done
for h in h1 h2 h3; do listen_lab $h; done
for h in h1 h2 h3; do check "$h serves" soon 60 is_serving $h; done
on h3 'timeout 30 mosquitto_sub -V 5 -h 10.77.0.13 -i there -t "lab/#" -q 1 -C 1 >/tmp/got 2>&1 & disown'
check "a message from h1 to h3" soon 20 on h3 'mosquitto_pub -V 5 -h 10.77.0.11 -t lab/x -m across -q 1; grep -q across /tmp/got'
bench rpm 1 60 h1 h2 h3
for h in h1 h2 h3; do
    check "$h: dnf install the newer version; ready" on $h "dnf -y -q install /lab/new/bilrost-$newer-*.rpm && bilrostd --version | grep -q '$newer'"
    check "$h serves" soon 60 is_serving $h
done
check "h1: dnf downgrade" on h1 "dnf -y -q downgrade bilrost && bilrostd --version | grep -q '$version\$'"
check "h1 serves" soon 60 is_serving h1
check "nothing acknowledged was lost" bench_good rpm
show
check "h3 leaves" on h3 'bilrost-setup leave'
check "h3 is gone" soon 40 on h1 '! bilrostctl cluster | grep "10.77.0.13" | grep -q alive'
for h in h1 h2; do check "$h serves" soon 40 is_serving $h; done
