#!/bin/bash
# under load: kill -9, power cut, network cut, watchdog, full disk; nothing acknowledged is lost
for qos in 1 2; do bench "faults$qos" $qos 75 h1 h2 h3; done
sleep 5
before=$(main_pid h1)
on h1 'kill -9 $(systemctl show -p MainPID --value bilrostd)'
check "h1: kill -9, and back" soon 30 on h1 "bilrostctl ready && test \$(systemctl show -p MainPID --value bilrostd) != $before"
sleep 5
check "h2: power cut" "$HOSTS" kill h2
sleep 6
check "h2 boots again" "$HOSTS" start h2
check "h2 serves by itself" soon 40 is_serving h2
sleep 5
check "h3: cut off from the network" "$HOSTS" cut h3
check "h3 says that it is cut off" soon 20 on h3 'systemctl show -p StatusText --value bilrostd | grep -E "isolated|no leader"'
sleep 3
check "h3: network healed" "$HOSTS" heal h3
check "h3 serves again" soon 40 is_serving h3
check "h1 and h2 cannot see each other" "$HOSTS" cut h1 h2
sleep 6
check "healed" "$HOSTS" heal h1 h2
for h in h1 h2 h3; do check "$h serves" soon 40 is_serving $h; done
for qos in 1 2; do check "QoS $qos: nothing acknowledged was lost, nothing doubled that must not be" bench_good "faults$qos"; show; done

# A full disk, on a file system of its own.
on h3 'systemctl stop bilrostd; cp -a /var/lib/bilrost /var/tmp/data; mount -t tmpfs -o size=300m tmpfs /var/lib/bilrost
    cp -a /var/tmp/data/. /var/lib/bilrost; chown bilrost:bilrost /var/lib/bilrost; chmod 750 /var/lib/bilrost; systemctl start bilrostd'
check "h3 on a small disk serves" soon 40 is_serving h3
bench full 1 40 h1 h2 h3
sleep 4
on h3 'dd if=/dev/zero of=/var/lib/bilrost/filler bs=1M 2>/dev/null; df -h /var/lib/bilrost | tail -1'
sleep 12
check "h3: the disk is full, the others serve on" is_serving h1
check "h3 says why" on h3 'journalctl -u bilrostd --since -30s -o cat --no-pager | grep -iE "no space|disk"'
on h3 'rm /var/lib/bilrost/filler; systemctl reset-failed bilrostd; systemctl start bilrostd'
check "space again: h3 serves" soon 40 is_serving h3
check "full disk: nothing acknowledged was lost" bench_good full
show
on h3 'systemctl stop bilrostd; rm -rf /var/tmp/data; cp -a /var/lib/bilrost /var/tmp/data; umount /var/lib/bilrost; rm -rf /var/lib/bilrost/*
    cp -a /var/tmp/data/. /var/lib/bilrost; rm -rf /var/tmp/data; systemctl start bilrostd'
check "h3 on its own disk again" soon 40 is_serving h3
