#!/bin/bash
# the unit: watchdog, reload, kill, drain, limits, credentials, sockets, instances
# one host
on h1 'systemctl is-active -q bilrostd || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq bilrost mosquitto-clients >/dev/null' >/dev/null

# Who of its threads waits for the others: the unit's filter allows it to say so.
check "batch threads, but for the one that writes the log" on h1 'p=$(systemctl show -p MainPID --value bilrostd)
    for t in /proc/$p/task/*; do echo "$(cat $t/comm) $(chrt -p ${t##*/} | head -n 1)"; done | tee /tmp/threads
    test $(grep -c SCHED_BATCH /tmp/threads) -ge 2 && ! grep -v SCHED_BATCH /tmp/threads | grep -v "^raft-log .*SCHED_OTHER"'

# Kill and watchdog.
before=$(main_pid h1)
on h1 'kill -9 $(systemctl show -p MainPID --value bilrostd)'
check "kill -9: started again" soon 10 on h1 "systemctl is-active -q bilrostd && test \$(systemctl show -p MainPID --value bilrostd) != $before"
on h1 'mkdir -p /etc/systemd/system/bilrostd.service.d; printf "[Service]\nWatchdogSec=4s\n" >/etc/systemd/system/bilrostd.service.d/lab.conf
    systemctl daemon-reload; systemctl restart bilrostd'
before=$(main_pid h1)
sleep 6
check "the watchdog is fed: alive after 6 s of 4 s" test "$(main_pid h1)" = "$before"
on h1 'p=$(systemctl show -p MainPID --value bilrostd); for t in /proc/$p/task/*; do
    [ "$(cat $t/comm)" = bilrostd ] && [ ${t##*/} != $p ] && { systemd-run -q /lab/hold ${t##*/} 60; break; }; done'
check "one loop hangs: the watchdog sees it" soon 15 logged h1 'Watchdog timeout'
check "and the broker is started again" soon 10 on h1 "systemctl is-active -q bilrostd && test \$(systemctl show -p MainPID --value bilrostd) != $before"
on h1 'rm /etc/systemd/system/bilrostd.service.d/lab.conf; systemctl daemon-reload; systemctl restart bilrostd'

# Reload.
before=$(main_pid h1)
on h1 'echo "log_level = \"debug\";" >/etc/bilrost/conf.d/70-lab.conf'
check "reload takes a good configuration" on h1 'systemctl reload bilrostd'
check "and says so" soon 3 logged h1 'the configuration is in effect'
on h1 'echo "log_levle = \"debug\";" >/etc/bilrost/conf.d/70-lab.conf'
check "reload refuses a mistake" not on h1 'systemctl reload bilrostd'
check "with file, line and the nearest name" logged h1 '70-lab.conf:1.*log_levl*e'
on h1 'echo "auth: { password_file = \"/etc/bilrost/p\"; };" >/etc/bilrost/conf.d/70-lab.conf; echo rubbish >/etc/bilrost/p'
check "reload refuses a password file that it cannot read" not on h1 'systemctl reload bilrostd'
check "the same process serves on" test "$(main_pid h1)" = "$before"
check "the same broken configuration: --test-config exits with 78" on h1 'bilrostd --test-config; test $? = 78'
check "a start with it fails for good, with the reason" on h1 'systemctl stop bilrostd; ! systemctl start bilrostd; sleep 2
    test "$(systemctl show -p Result --value bilrostd)" = exit-code -a "$(systemctl show -p NRestarts --value bilrostd)" = 0'
on h1 'rm /etc/bilrost/conf.d/70-lab.conf /etc/bilrost/p; systemctl start bilrostd'

# Stop.
on h1 'timeout 30 mosquitto_sub -V 5 -i sleeper -t x >/tmp/sub.out 2>&1 & disown; sleep 0.5'
check "stop drains and ends well" on h1 'systemctl stop bilrostd; test "$(systemctl show -p Result --value bilrostd)" = success'
check "without a kill" not logged h1 'SIGKILL'
on h1 'systemctl start bilrostd'

# Memory.
on h1 'printf "[Service]\nMemoryMax=200M\n" >/etc/systemd/system/bilrostd.service.d/lab.conf; systemctl daemon-reload; systemctl restart bilrostd'
check "MemoryMax= is known: queues and buffers get three quarters" logged h1 'memory_max is 157286400 bytes'
on h1 'rm /etc/systemd/system/bilrostd.service.d/lab.conf; systemctl daemon-reload'

# Credentials: a key that only root may read.
on h1 'cd /etc/bilrost/credentials && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=h1 \
    -addext subjectAltName=DNS:localhost -keyout server.key -out server.pem 2>/dev/null; chmod 600 *; cp server.pem /tmp
    cat >/etc/bilrost/conf.d/70-lab.conf <<X
listeners = ( { name = "tls"; kind = "tls"; address = "127.0.0.1:8883"; auth = ["anonymous"];
  certFile = "\$CREDENTIALS_DIRECTORY/keys_server.pem"; keyFile = "\$CREDENTIALS_DIRECTORY/keys_server.key"; } );
X
    systemctl restart bilrostd'
check "TLS with a credential" on h1 'mosquitto_pub --cafile /tmp/server.pem -h localhost -p 8883 -t a -m x -q 1'

# Certificates are taken on without a connection lost.
on h1 'install -d -g bilrost -m 750 /etc/bilrost/tls; cd /etc/bilrost/tls; cp ../credentials/server.* .; chgrp bilrost *; chmod 640 *
    sed -i "s|.CREDENTIALS_DIRECTORY/keys_|/etc/bilrost/tls/|g" /etc/bilrost/conf.d/70-lab.conf; systemctl restart bilrostd
    (timeout 60 mosquitto_sub --cafile /tmp/server.pem -h localhost -p 8883 -i rotor -t rotate -C 1 >/tmp/rotate 2>&1; echo $? >>/tmp/rotate) & disown
    sleep 1; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=new -addext subjectAltName=DNS:localhost \
    -keyout k -out c 2>/dev/null; cat k >server.key; cat c >server.pem; rm k c; systemctl reload bilrostd'
check "a new certificate after a reload" soon 5 on h1 'openssl s_client -connect 127.0.0.1:8883 </dev/null 2>/dev/null | grep -q "CN = new"'
on h1 'mosquitto_pub -t rotate -m still -q 1'
check "and the old connection lives on" soon 5 on h1 'grep -q still /tmp/rotate'
on h1 'echo rubbish >/etc/bilrost/tls/server.pem'
check "reload refuses a broken certificate" not on h1 'systemctl reload bilrostd'
check "the one in use stays" on h1 'openssl s_client -connect 127.0.0.1:8883 </dev/null 2>/dev/null | grep -q "CN = new"'
on h1 'rm -r /etc/bilrost/tls /etc/bilrost/conf.d/70-lab.conf /etc/bilrost/credentials/*; systemctl restart bilrostd'

# Socket activation.
on h1 'systemctl stop bilrostd; echo "listeners = ( { name = \"local\"; kind = \"systemd\"; address = \"mqtt\"; auth = [\"anonymous\"]; } );" \
    >/etc/bilrost/conf.d/70-lab.conf; systemctl start bilrostd.socket'
check "socket activation: a client starts the broker" on h1 '! systemctl is-active -q bilrostd && mosquitto_pub -t a -m x -q 1 && for i in $(seq 50); do systemctl is-active -q bilrostd && exit; sleep 0.2; done; exit 1'
check "a restart refuses nobody: the port stays open" on h1 'systemctl restart --no-block bilrostd; for i in 1 2 3 4 5 6 7 8; do
    timeout 20 mosquitto_pub -t a -m x -q 0 2>&1 | grep -i refused && exit 1; sleep 0.1; done; exit 0'
on h1 'systemctl stop bilrostd.socket bilrostd; rm /etc/bilrost/conf.d/70-lab.conf; systemctl start bilrostd'

# Instances.
on h1 'mkdir -p /etc/bilrost-two/credentials; sed "s/127.0.0.1:1883/127.0.0.1:2883/; s/8091/9091/" /etc/bilrost/bilrostd.conf >/etc/bilrost-two/bilrostd.conf
    chgrp -R bilrost /etc/bilrost-two; chmod 750 /etc/bilrost-two; chmod 640 /etc/bilrost-two/bilrostd.conf'
check "bilrostd@two: a second broker on the same host" on h1 'systemctl enable -q --now bilrostd@two && mosquitto_pub -p 2883 -t a -m x -q 1 && test -d /var/lib/bilrost-two'
check "bilrost.target stops and starts it" on h1 'systemctl start bilrost.target; systemctl restart bilrost.target; systemctl is-active bilrostd@two'
on h1 'systemctl disable -q --now bilrostd@two; systemctl stop bilrost.target; rm -rf /etc/bilrost-two /var/lib/bilrost-two; systemctl restart bilrostd'
