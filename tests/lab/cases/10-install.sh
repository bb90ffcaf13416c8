#!/bin/bash
# apt-get install on one host: what is there, and what is not
# one host
started=$(date +%s%N)
check "apt-get install bilrost" apt h1 install bilrost
check "it runs and is ready" on h1 'systemctl is-active bilrostd && systemctl is-enabled bilrostd'
echo "     ready $((($(date +%s%N) - started) / 1000000)) ms after apt-get began"
check "STATUS says what it does" on h1 'systemctl show -p StatusText --value bilrostd | grep -q "^serving 0 clients"'
check "READY=1 came after the leaders" on h1 'bilrostctl ready'
check "it listens on loopback only" on h1 'ss -Hltn | grep -c 127.0.0.1:1883 && ! ss -Hltun | grep -v "127.0.0.\|\[::1\]"'
check "a publish arrives" on h1 'DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mosquitto-clients >/dev/null
    timeout 10 mosquitto_sub -V 5 -t a -C 1 -q 1 >/tmp/got & sleep 0.5; mosquitto_pub -V 5 -t a -m hello -q 1; wait; grep hello /tmp/got'
check "the user has no shell, the program belongs to root" on h1 \
    'getent passwd bilrost | grep -q nologin && test $(stat -c %U /usr/sbin/bilrostd) = root'
check "configuration root:bilrost 0640, credentials for root alone" on h1 \
    'test "$(stat -c %U:%G:%a /etc/bilrost/bilrostd.conf)" = root:bilrost:640 -a "$(stat -c %U:%a /etc/bilrost/credentials)" = root:700'
check "no capability, no new privileges, a seccomp filter" on h1 's=/proc/$(systemctl show -p MainPID --value bilrostd)/status
    grep -q "NoNewPrivs:.1" $s && grep -q "Seccomp:.2" $s && grep -q "CapBnd:.0*$" $s && ! grep -q "^Uid:.0" $s'
check "systemd-analyze security: at most 1.2" on h1 'systemd-analyze security --no-pager --threshold=12 bilrostd | tail -1'
show
check "the units are in order" on h1 'for u in bilrostd.service bilrostd@x.service bilrost.target bilrostd.socket; do
    systemd-analyze verify --man=no $u 2>&1; done | grep -i "bilrost" && exit 1; exit 0'
check "journal fields: CLIENT_ID finds a client's lines" on h1 \
    'mosquitto_pub -i seeker -t a -m x; sleep 0.3; journalctl -u bilrostd CLIENT_ID=seeker -o json --no-pager | grep -q BILROST_EVENT'
check "bilrostctl talks to it over the unix socket" on h1 'bilrostctl status'
