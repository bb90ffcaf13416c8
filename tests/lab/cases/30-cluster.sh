#!/bin/bash
# three hosts become a cluster with the commands of QUICKSTART; clients on one, messages to another
for h in h1 h2 h3; do on $h 'systemctl is-active -q bilrostd && DEBIAN_FRONTEND=noninteractive apt-get -y -qq purge bilrost </dev/null; rm -rf /var/lib/bilrost /etc/bilrost' >/dev/null 2>&1; done
cluster_conf() { # HOST: as a person would write it
    local a
    a=$(address_of "$1")
    on "$1" "install -d -g bilrost -m 750 /etc/bilrost/conf.d; cat >/etc/bilrost/conf.d/50-cluster.conf" <<X
clusterConfig: { enable = true; env = "lab"; host = "$a"; insecure = true;
  seedEndpoints = ["10.77.0.11:8899", "10.77.0.12:8899", "10.77.0.13:8899"]; };
rpcConfig: { host = "$a"; };
X
    on "$1" 'systemctl stop bilrostd; rm -rf /var/lib/bilrost/*; chgrp bilrost /etc/bilrost/conf.d/*'
    on "$1" 'systemctl start --no-block bilrostd'
}
began=$SECONDS
for h in h1 h2 h3; do
    check "$h: apt-get install bilrost" apt $h install bilrost mosquitto-clients &
done
wait
pass=$((pass + 3)) # counted in the background: what failed there shows below
if on h1 'test -x /usr/sbin/bilrost-setup'; then
    made_by=bilrost-setup
    on h1 "bilrost-setup init --env lab --host $(address_of h1)" >"$work/join" 2>"$work/init.err"
    check "bilrost-setup init prints a join line" grep -q 'bilrost-setup join' "$work/join" "$work/init.err"
    line=$(grep -ho 'bilrost-setup join.*' "$work/join" "$work/init.err" | tail -1)
    for h in h2 h3; do check "$h: $(echo "$line" | cut -c1-60)..." on $h "$line --host $(address_of $h)"; done
else
    made_by=hand
    for h in h1 h2 h3; do cluster_conf $h; done
fi
for h in h1 h2 h3; do check "$h serves" soon 60 is_serving $h; done
for h in h1 h2 h3; do check "$h has a leader for each range" on $h 'bilrostctl ready'; done
took=$((SECONDS - began))
# Where others want this machine, too, it has that much less of it: 60 s are meant for one with as many cores as work.
limit=$(awk -v cores="$(nproc)" '{busy = $1 / cores; print int(60 * (busy > 1 ? busy : 1))}' /proc/loadavg)
check "a healthy cluster of three $took s after the first apt-get ($made_by; of $limit s, which are 60 on an idle machine)" test "$took" -le "$limit"
# Chapter 2 of QUICKSTART: clients of the network, with TLS and the password that init showed.
password=$(sed -n 's/.*password[^0-9a-f]*\([0-9a-f]\{16\}\).*/\1/p' "$work/init.err" | head -n 1)
for h in h1 h2 h3; do
    check "$h: bilrost-setup expose --self-signed" on $h 'bilrost-setup expose --self-signed && cp /etc/bilrost/tls/server.pem /root/ca.pem'
done
on h1 "timeout 60 mosquitto_sub -h 10.77.0.11 -p 8883 --cafile /root/ca.pem -u mqtt -P '$password' -t 'hello/#' -v -C 1 >/tmp/hello 2>&1 & disown"
hello() {
    on h3 "mosquitto_pub -h 10.77.0.13 -p 8883 --cafile /root/ca.pem -u mqtt -P '$password' -t hello/world -m hi -q 1"
    on h1 "cat /tmp/hello; grep -q 'hello/world hi' /tmp/hello"
}
check "with the commands of QUICKSTART a message goes from h3 to h1 over TLS" soon 60 hello
check "a wrong password is refused" not on h3 "mosquitto_pub -h 10.77.0.13 -p 8883 --cafile /root/ca.pem -u mqtt -P wrong -t hello/world -m hi -q 1"
check "bilrost-setup check has nothing to say but about what this machine lacks, NTP and 1,048,576 files" on h2 \
    'bilrost-setup check >/tmp/said; cat /tmp/said; grep -q "^ok" /tmp/said && ! grep "^BAD" /tmp/said | grep -v -e clock: -e limits:'
for h in h1 h2 h3; do listen_lab $h; done
for h in h1 h2 h3; do check "$h: restarted with a listener for the lab, it serves" soon 40 is_serving $h; done
check "three members" on h1 'test $(bilrostctl cluster | grep -c "10.77.0.1[123]") -ge 3'
on h3 'timeout 30 mosquitto_sub -V 5 -h 10.77.0.13 -i there -t "lab/#" -q 1 -C 1 >/tmp/got 2>&1 & disown; sleep 1'
on h2 'mosquitto_pub -V 5 -h 10.77.0.11 -t lab/x -m across -q 1'
check "mosquitto clients of two other hosts: a message from h1 to h3" soon 5 on h3 'grep -q across /tmp/got'
on h1 'mosquitto_sub -V 5 -x 600 -c -h 10.77.0.11 -i away -t "off/#" -q 1 -E; mosquitto_pub -h 10.77.0.13 -V 5 -t off/1 -m kept -q 1; mosquitto_pub -h 10.77.0.12 -t ret/1 -m stays -r -q 1'
check "a session made at h1 gets at h2 what was published at h3" on h2 'timeout 10 mosquitto_sub -V 5 -x 600 -c -h 10.77.0.12 -i away -t "off/#" -q 1 -C 1 | grep -q kept'
check "a retained message set at h2 is found at h3" on h3 'timeout 10 mosquitto_sub -h 10.77.0.13 -t ret/1 -C 1 | grep -q stays'
