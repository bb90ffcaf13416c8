#!/bin/bash
# remove, install again, purge: data stay unless a yes was given
# one host
on h1 'systemctl is-active -q bilrostd || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq bilrost mosquitto-clients >/dev/null' >/dev/null
# A host that was a node of a cluster leaves it first: what it kept belongs to the cluster, alone it could not serve it.
if on h1 'test -e /etc/bilrost/conf.d/50-cluster.conf'; then
    check "h1 leaves the cluster" on h1 'bilrost-setup leave --force'
    check "and serves alone" soon 40 is_serving h1
fi
on h1 'mosquitto_pub -V 5 -t keep/1 -m kept -r -q 1'
check "apt-get remove stops it" on h1 'apt-get -y -q remove bilrost && ! systemctl is-active bilrostd && test ! -e /usr/sbin/bilrostd'
check "data and configuration stay" on h1 'test -e /var/lib/bilrost/FORMAT -a -e /etc/bilrost/bilrostd.conf'
check "installed again, it serves what it had" on h1 'DEBIAN_FRONTEND=noninteractive apt-get -y -q install bilrost </dev/null &&
    timeout 10 mosquitto_sub -t keep/1 -C 1 | grep kept'
check "purge without an answer keeps the data, and says so" on h1 'DEBIAN_FRONTEND=noninteractive apt-get -y -q purge bilrost </dev/null 2>&1 | grep "was kept" &&
    test -e /var/lib/bilrost/FORMAT -a ! -e /etc/bilrost/bilrostd.conf'
check "no unit, no link, no user's process is left" on h1 '! ls /etc/systemd/system/*.wants/bilrost* 2>/dev/null && ! pgrep -u bilrost && test ! -e /run/bilrost'
check "installed after a purge, it serves what it had" on h1 'DEBIAN_FRONTEND=noninteractive apt-get -y -q install bilrost </dev/null &&
    timeout 10 mosquitto_sub -t keep/1 -C 1 | grep kept'
check "purge with a yes removes them" on h1 'echo "bilrost bilrost/remove-data boolean true" | debconf-set-selections
    DEBIAN_FRONTEND=noninteractive apt-get -y -q purge bilrost </dev/null && test ! -e /var/lib/bilrost -a ! -e /etc/bilrost'
