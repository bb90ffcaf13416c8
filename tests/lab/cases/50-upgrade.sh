#!/bin/bash
# upgrade and downgrade by the package manager, one host after the other, under load; a broken configuration refuses
for qos in 1 2; do bench "upgrade$qos" $qos 80 h1 h2 h3; done
sleep 3
for h in h1 h2 h3; do
    before=$(main_pid $h)
    check "$h: apt-get install the newer version" apt $h install /lab/new/bilrost_*.deb
    check "$h: restarted, ready when apt-get came back" on $h "bilrostctl ready && test \$(systemctl show -p MainPID --value bilrostd) != $before && bilrostd --version | grep -q '$newer'"
    sleep 2
done
for h in h1 h2 h3; do
    check "$h: downgrade" apt $h install --allow-downgrades "bilrost=$version"
    check "$h: serves with the older version" soon 30 on $h "bilrostctl ready && bilrostd --version | grep -q '$version$'"
    sleep 2
done
for qos in 1 2; do check "rolling upgrade and downgrade, QoS $qos: nothing acknowledged was lost" bench_good "upgrade$qos"; show; done

before=$(main_pid h1)
on h1 'echo "workers = \"many\";" >/etc/bilrost/conf.d/70-lab.conf'
check "a broken configuration: the upgrade refuses" not apt h1 install /lab/new/bilrost_*.deb
cp "$out" "$work/said"
check "with file, line and reason" grep -q '70-lab.conf:1' "$work/said"
check "the old process serves on" on h1 "test \$(systemctl show -p MainPID --value bilrostd) = $before && bilrostctl ready"
on h1 'rm /etc/bilrost/conf.d/70-lab.conf'
check "corrected: dpkg --configure -a ends the upgrade" on h1 "dpkg --configure -a && bilrostctl ready && test \$(systemctl show -p MainPID --value bilrostd) != $before"
before=$(main_pid h1)
on h1 'cp -p /var/lib/bilrost/FORMAT /var/tmp/FORMAT; echo "bilrost-data 99" >/var/lib/bilrost/FORMAT'
check "data of a newer format: the downgrade refuses" not apt h1 install --allow-downgrades "bilrost=$version"
cp "$out" "$work/said"
check "and says what to do" grep -q 'newer version' "$work/said"
check "the old process serves on" on h1 "test \$(systemctl show -p MainPID --value bilrostd) = $before"
on h1 'cp -p /var/tmp/FORMAT /var/lib/bilrost/FORMAT'
check "put right: the downgrade ends" on h1 'dpkg --configure -a && bilrostctl ready'
