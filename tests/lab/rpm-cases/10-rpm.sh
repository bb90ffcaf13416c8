#!/bin/bash
# dnf install, upgrade, downgrade, remove; scriptlets
# one host
dnf() { on h1 "dnf -y -q $*"; }
check "dnf install bilrost bilrost-tools bilrost-doc" dnf install bilrost bilrost-tools bilrost-doc
check "preset says disabled: not enabled, not started" on h1 'test "$(systemctl is-enabled bilrostd)" = disabled && ! systemctl is-active bilrostd'
check "the user is there, configuration root:bilrost 0640, credentials for root alone" on h1 'getent passwd bilrost | grep nologin &&
    test "$(stat -c %U:%G:%a /etc/bilrost/bilrostd.conf)" = root:bilrost:640 -a "$(stat -c %U:%a /etc/bilrost/credentials)" = root:700'
check "rpm -V finds nothing wrong" on h1 'rpm -V bilrost bilrost-tools bilrost-doc'
check "systemctl enable --now: ready" on h1 'systemctl enable -q --now bilrostd && bilrostctl ready'
check "a publish arrives" on h1 'mosquitto_pub -V 5 -t keep/1 -m kept -r -q 1 && timeout 10 mosquitto_sub -t keep/1 -C 1 | grep kept'
before=$(main_pid h1)
check "dnf upgrade restarts it" on h1 "dnf -y -q install /lab/new/bilrost-$newer-*.rpm && systemctl is-active bilrostd && bilrostd --version | grep -q '$newer' &&
    test \$(systemctl show -p MainPID --value bilrostd) != $before"
check "and it serves what it had" on h1 'timeout 10 mosquitto_sub -t keep/1 -C 1 | grep kept'
before=$(main_pid h1)
on h1 'echo "log_level = \"loud\";" >/etc/bilrost/conf.d/70-lab.conf'
on h1 "dnf -y downgrade bilrost 2>&1" >"$work/said" # with -q dnf keeps to itself what scriptlets say
check "a broken configuration: not restarted, and the reason is said" grep '70-lab.conf:1' "$work/said"
show
check "the old process serves on" on h1 "test \$(systemctl show -p MainPID --value bilrostd) = $before && bilrostctl ready"
on h1 'rm /etc/bilrost/conf.d/70-lab.conf'
check "corrected, it is restarted by hand with the older version" on h1 "systemctl restart bilrostd && bilrostd --version | grep -q '$version\$' && bilrostctl ready"
on h1 'echo "# mine" >>/etc/bilrost/bilrostd.conf'
check "dnf upgrade keeps a configuration that was edited" on h1 "dnf -y -q install /lab/new/bilrost-$newer-*.rpm && grep -q mine /etc/bilrost/bilrostd.conf && bilrostctl ready"
check "dnf remove stops and disables it; data and what was edited stay" on h1 'dnf -y -q remove bilrost; ! systemctl is-active bilrostd && ! ls /etc/systemd/system/*.wants/bilrost* 2>/dev/null &&
    test -e /var/lib/bilrost/FORMAT -a -e /etc/bilrost/bilrostd.conf.rpmsave -a ! -e /usr/sbin/bilrostd'
check "installed again, it serves what it had" on h1 'dnf -y -q install bilrost && systemctl start bilrostd && timeout 10 mosquitto_sub -t keep/1 -C 1 | grep kept'
