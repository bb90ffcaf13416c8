#!/bin/bash
# upgrade and downgrade by the package manager, one host after the other, under load; all at once, which restart in turn; a broken configuration or plugin refuses
for qos in 1 2; do bench "upgrade$qos" $qos 110 h1 h2 h3; done
sleep 3
for h in h1 h2 h3; do
    before=$(main_pid $h)
    check "$h: apt-get install the newer version" apt $h install /lab/new/bilrost_*.deb
    check "$h: restarted, ready when apt-get came back" on $h "bilrostctl ready && test \$(systemctl show -p MainPID --value bilrostd) != $before && bilrostd --version | grep -q '$newer'"
    sleep 2
done
# All three at the same moment, as unattended upgrades are: they restart one after the other by themselves.
for h in h1 h2 h3; do
    (T=400 && apt $h install --allow-downgrades "bilrost=$version" >"$work/down-$h" 2>&1) &
    downs[${h#h}]=$!
done
for h in h1 h2 h3; do
    check "$h: downgrade at the same time as the others" wait "${downs[${h#h}]}"
    check "$h: serves with the older version" soon 60 on $h "bilrostctl ready && bilrostd --version | grep -q '$version$'"
done
cat "$work"/down-h? | grep '^bilrost: waits' | sort | uniq -c
for h in h1 h2 h3; do
    on $h 'systemctl show -p ActiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic --value bilrostd' | sort -n | paste -sd ' '
done | sort -n >"$work/away"
cat "$work/away"
check "never two of them were away at once" awk 'NF != 2 || $1 < before {exit 1} {before = $2}' "$work/away"
for qos in 1 2; do check "rolling upgrade and downgrade, QoS $qos: nothing acknowledged was lost" bench_good "upgrade$qos"; show; done

before=$(main_pid h1)
check "needrestart restarts it by the same rule" on h1 "/etc/needrestart/restart.d/bilrostd.service && bilrostctl ready && test \$(systemctl show -p MainPID --value bilrostd) != $before"
before=$(main_pid h1)
on h2 'systemctl stop bilrostd'
check "a node is missing: the upgrade of another refuses" not on h1 'BILROST_TURN_SECONDS=5 DEBIAN_FRONTEND=noninteractive apt-get -y -q install /lab/new/bilrost_*.deb </dev/null'
cp "$out" "$work/said"
check "and says for what it waited" grep -E 'bilrost: waits .*(2 of 3 voters are alive|is dead|did not answer|is not ready)' "$work/said"
check "the old process serves on" on h1 "test \$(systemctl show -p MainPID --value bilrostd) = $before"
on h2 'systemctl start bilrostd'
check "the node is back: dpkg --configure -a ends the upgrade" on h1 "dpkg --configure -a && bilrostctl ready && bilrostd --version | grep -q '$newer' &&
    test \$(systemctl show -p MainPID --value bilrostd) != $before"
check "and back to the older version" apt h1 install --allow-downgrades "bilrost=$version"

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

# A plugin that the new version does not take: one of another interface, one that is gone.
printf '#include <stdint.h>\nstruct { uint32_t abi; const char *name; void *f[8]; } const bilrost_plugin = {.abi = 999, .name = "old"};\n' |
    cc -shared -fPIC -x c -o "$LAB_SHARE/old.so" - || fail=$((fail + 1))
before=$(main_pid h1)
on h1 'install -D -m 644 /lab/old.so /usr/lib/bilrost/plugins/old.so
    echo "plugins = [\"/usr/lib/bilrost/plugins/old.so\"];" >/etc/bilrost/conf.d/70-lab.conf'
check "a plugin of another interface: the upgrade refuses" not apt h1 install /lab/new/bilrost_*.deb
cp "$out" "$work/said"
check "with the plugin and what to do" grep -E 'old.so.*999' "$work/said"
check "the old process serves on" on h1 "test \$(systemctl show -p MainPID --value bilrostd) = $before && bilrostctl ready"
on h1 'rm /usr/lib/bilrost/plugins/old.so'
check "a plugin that is gone: refused, too" not on h1 'dpkg --configure -a'
cp "$out" "$work/said"
check "and named" grep 'plugins/old.so' "$work/said"
on h1 'rm /etc/bilrost/conf.d/70-lab.conf'
check "taken out of the configuration: the upgrade ends" on h1 "dpkg --configure -a && bilrostctl ready && test \$(systemctl show -p MainPID --value bilrostd) != $before"
check "h1: the older version again" apt h1 install --allow-downgrades "bilrost=$version"
