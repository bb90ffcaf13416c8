"""The process: what it refuses and how it says so, reload, the ways in.  SPDX-License-Identifier: Apache-2.0"""
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

from cluster_cases import logged
from mqtt import Client, gather
from ports import free_port

TCP = 'listeners = ( { kind = "tcp"; address = "%s"; auth = ["anonymous"]; } );\n'
BARE = 'data_dir = "";\napiServerConfig: { enable = false; unixSocket = ""; };\n'


def run(w, config, *options, within=60):
    """bilrostd with this configuration until it ends: exit code and what it said."""
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "x.conf")
        with open(path, "w") as f:
            f.write(config.replace("@DIR@", d))
        r = subprocess.run([w.args.broker, "-c", path, *options], capture_output=True, text=True, timeout=within,
                           check=False)
        return r.returncode, r.stdout + r.stderr


def refused(w, code, says, config, *options):
    got, text = run(w, config, *options)
    assert got == code, "exit code %d instead of %d: %s" % (got, code, text)
    assert says in text, text


def test_wrong_usage_is_64(w):
    for options in (["--nonsense"], ["stray"]):
        r = subprocess.run([w.args.broker, *options], capture_output=True, text=True, timeout=60, check=False)
        assert r.returncode == 64, r.returncode


def test_a_bad_configuration_is_78_and_named(w):
    refused(w, 78, 'x.conf:4: unknown key "wokers"; did you mean "workers"?', BARE + "\nwokers = 1;\n")
    refused(w, 78, "x.conf:3: syntax error", BARE + "workers = = 1;\n")
    refused(w, 78, "must be between 0 and 64", BARE, "-D", "workers=1000")
    refused(w, 78, 'cannot read "/nonexistent"', BARE + 'auth: { acl_file = "/nonexistent"; };\n')
    # a name of something that there is not
    acme = 'tenants: { acme: { }; };\n'
    refused(w, 78, 'x.conf:3: tenant is "acne", but there is no such tenant: add it to tenants, which has default, acme',
            BARE + TCP.replace("; }", '; tenant = "acne"; }') % "127.0.0.1:1" + acme)
    refused(w, 78, 'x.conf:4: sys_tenant is "acne", but there is no such tenant', BARE + acme + 'sys_tenant = "acne";\n')
    refused(w, 78, 'apiServerConfig.unixGroup is "no-such-group", but this machine has no such group',
            BARE, "-D", "apiServerConfig.unixGroup=no-such-group")
    code, text = run(w, BARE + TCP % "127.0.0.1:1", "--test-config")
    assert code == 0 and "good" in text, text
    r = subprocess.run([w.args.broker, "-c", "/nonexistent.conf"], capture_output=True, text=True, timeout=60, check=False)
    assert r.returncode == 78 and "/nonexistent.conf: cannot read it" in r.stderr, r.stderr


def test_each_mistake_is_refused_in_the_same_words_everywhere(w):
    """At --test-config, at a start and at a reload, which keeps what was: one sentence with the place, exit code 78."""
    n = w.node()
    crt, key = n.certificate()
    other = n.file("other.key", subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True).stdout)
    n.start()
    c = Client(n.port, 5)
    c.connect("stays")
    with open(n.conf) as f:
        good = f.read()
    tls = 'listeners = ( { kind = "tls"; address = "127.0.0.1:0"; auth = "anonymous"; certFile = "%s"; keyFile = "%s"; }, '

    def listener(crt, key):
        return good.replace("listeners = ( ", tls % (crt, key))

    def added(text):
        return good + text
    end = len(good.splitlines())
    for config, says in (
            (added("twice = 1;\ntwice = 2;\n"), '%s:%d: duplicate setting name at "twice"' % (n.conf, end + 2)),
            (added("wokers = 1;\n"), '%s:%d: unknown key "wokers"; did you mean "workers"?' % (n.conf, end + 1)),
            (added('@include "%s"\n' % n.file("more", "\ninclude_mistake_count = 99;\n")), 'more:2: unknown key "include_mistake_count"'),
            (added('auth: { acl_file = "%s"; };\n' % n.file("acl", "user a\nallow b\n")), "acl:2: "),
            (added('auth: { password_file = "%s"; };\n' % n.file("pw", "# people\njoe:secret\n")), "pw:2: must be name:hash"),
            (added('auth: { password_file = "%s"; };\n' % n.dir), "cannot be read: Is a directory"),
            (added('tenants: { a: { aclFile = "/nonexistent"; }; };\n'), 'aclFile: cannot read "/nonexistent"'),
            (added('plugins = ["/nonexistent.so"];\n'), "/nonexistent.so: cannot open"),
            (added('sys_tenant = "defualt";\n'), '%s:%d: sys_tenant is "defualt", but there is no such tenant: add it to tenants, which has default'
             % (n.conf, end + 1)),
            (good.replace("listeners = ( ", 'listeners = ( { kind = "tcp"; address = "127.0.0.1:0"; auth = "anonymous"; tenant = "acme"; }, '),
             'tenant is "acme", but there is no such tenant: add it to tenants, which has default'),
            (good.replace("listeners = ( ", 'listeners = ( { kind = "unix"; address = "%s/s"; auth = "anonymous"; group = "no-such-group"; }, ' % n.dir),
             'group is "no-such-group", but this machine has no such group'),
            (good.replace('unixSocket = "";', 'unixSocket = "%s/api"; unixGroup = "no-such-group";' % n.dir).replace("enable = false", "enable = true"),
             'apiServerConfig.unixGroup is "no-such-group", but this machine has no such group'),
            (listener(crt, ""), 'kind is "tls": certFile and keyFile are needed'),
            (listener(crt, other), 'private key "%s": does not belong to the certificate' % other),
            (listener(key, key), 'certificate "%s": has none in PEM' % key),
            (listener(crt, n.dir), 'private key "%s": Is a directory' % n.dir)):
        with open(n.conf, "w") as f:
            f.write(config)
        for option in (["--test-config"], []):
            r = subprocess.run([w.args.broker, "-c", n.conf, *option], capture_output=True, text=True, timeout=60, check=False)
            assert r.returncode == 78 and says in r.stderr, (says, option, r.returncode, r.stderr)
        n.process.send_signal(signal.SIGHUP)
        log_has(n, says)
        assert c.publish("a", "still here", 1) in (0, 0x10)


def test_the_dump_is_a_configuration(w):
    code, text = run(w, BARE + TCP % "127.0.0.1:1", "--dump-config")
    assert code == 0
    again, same = run(w, text, "--dump-config")
    assert again == 0, same

    def values(t):
        return [line for line in t.splitlines() if not line.lstrip().startswith("#")]
    assert values(same) == values(text)


def test_a_busy_port_is_69(w):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        refused(w, 69, "another process already listens there", BARE + TCP % ("127.0.0.1:%d" % s.getsockname()[1]))
    refused(w, 69, "this machine does not have that address", BARE + TCP % "192.0.2.1:1883")


def test_bad_certificates_are_named(w):
    tls = 'listeners = ( { kind = "tls"; address = "127.0.0.1:0"; auth = ["anonymous"]; certFile = "@DIR@/x.conf"; keyFile = "@DIR@/x.conf"; } );\n'
    refused(w, 78, 'certificate "', BARE + tls)


def test_a_foreign_data_directory_is_refused(w):
    config = BARE.replace('data_dir = ""', 'data_dir = "/etc"') + TCP % "127.0.0.1:0"
    refused(w, 78, 'data_dir "/etc"', config)
    config = BARE.replace('data_dir = ""', 'data_dir = "/proc/nonexistent/x"') + TCP % "127.0.0.1:0"
    code, text = run(w, config)
    assert code in (71, 77, 78) and "data_dir" in text, text


def verify(w, path):
    """What bilrostd says of a stopped node's data; bilrostctl says the same."""
    def said(*argv):
        r = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return r.returncode, r.stdout + r.stderr
    answer = said(w.args.broker, "--verify-data", path)
    assert said(os.path.join(os.path.dirname(w.args.broker), "bilrostctl"), "store", "verify", path) == answer
    return answer


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x10]))


def test_data_are_looked_over(w):
    n = w.node(data=True).start()
    data = os.path.join(n.dir, "data")
    keeper, talker = Client(n.port), Client(n.port)
    keeper.connect("keeper", clean=False)
    keeper.subscribe(("kept/#", 1))
    keeper.drop()
    talker.connect("talker")
    for i in range(50):
        talker.publish("kept/%d" % i, "x" * 100, 1)
    talker.disconnect()
    code, text = verify(w, data)
    assert code == 78 and "another process" in text, (code, text)
    n.kill()
    code, text = verify(w, data)
    assert code == 0 and "all is well" in text, (code, text)
    segment = sorted(f for f in os.listdir(os.path.join(data, "log")) if f.endswith(".rlog"))[0]
    path = os.path.join(data, "log", segment)
    with open(path, "rb") as f:
        at = f.read().index(b"x" * 100)
    flip(path, at + 50)
    code, text = verify(w, data)
    assert code == 65 and segment in text and "checksum" in text and "must be made anew" in text, (code, text)
    n.launch()  # the only copy: nothing is thrown away
    code = n.process.wait(60)
    assert code == 78, (code, open(os.path.join(n.dir, "log")).read())
    log_has(n, "the only copy of a range")
    log_has(n, segment)
    flip(path, at + 50)
    code, text = verify(w, data)
    assert code == 0, (code, text)
    n.start()
    keeper = Client(n.port)
    keeper.connect("keeper", clean=False)
    gather([keeper], 50)
    keeper.disconnect()
    code, text = verify(w, "/nonexistent")
    assert code == 78 and "no data directory" in text, (code, text)
    code, text = verify(w, "/etc")
    assert code == 78, (code, text)


def test_data_of_others_are_refused(w):
    """A newer format, another cluster, a log of another node, a damaged NODE: 78, each with what to do; nothing is changed."""
    first, second = w.cluster(1)[0], w.cluster(1)[0]
    cluster = re.search('env = "([^"]+)"', open(first.conf).read()).group(1)
    data = os.path.join(first.dir, "data")
    assert first.terminate(60) == 0
    assert second.terminate(60) == 0

    def refuses(*says):
        before = tree(data)
        at = os.path.getsize(os.path.join(first.dir, "log"))
        first.launch()
        assert first.process.wait(60) == 78, first.process.returncode
        with open(os.path.join(first.dir, "log"), errors="replace") as f:
            f.seek(at)
            text = f.read()
        for x in says:
            assert x in text, (x, text)
        return before == tree(data)

    def tree(path):
        return {p: open(p, "rb").read() for d, _, names in os.walk(path) for p in [os.path.join(d, x) for x in names]}

    def written(name, content):
        path = os.path.join(data, name)
        with open(path, "rb") as f:
            kept = f.read()
        with open(path, "wb") as f:
            f.write(content)
        return kept
    kept = written("FORMAT", b"bilrost-data 4000000000\n")
    assert refuses(data, "newer version; install that version")
    written("FORMAT", b"bilrost-")
    assert refuses(data, "FORMAT is damaged", "put a copy back")
    written("FORMAT", kept)
    first.edit('env = "%s"' % cluster, 'env = "others"')
    assert refuses(data, 'belong to the cluster "%s", not to "others"; correct' % cluster)
    first.edit('env = "others"', 'env = "%s"' % cluster)
    with open(os.path.join(data, "NODE"), "rb") as f:
        node = f.read()
    written("NODE", node[:-1] + bytes([node[-1] ^ 1]))
    assert refuses(data, "NODE is damaged", "put a copy back")
    written("NODE", node)
    log = os.path.join(data, "log")
    os.rename(log, log + ".own")
    shutil.copytree(os.path.join(second.dir, "data", "log"), log)
    refuses(log, "belongs to another node; put this node's own files back", "the log says which")  # this start is counted
    shutil.rmtree(log)
    os.rename(log + ".own", log)
    first.start()
    assert first.terminate(60) == 0


def log_has(n, text, within=60):
    end = time.monotonic() + within
    while True:
        with open(os.path.join(n.dir, "log")) as f:
            if text in f.read():
                return
        assert time.monotonic() < end, "the log never says: " + text
        select_pause()


def select_pause():
    """The log has no descriptor to wait on: look again in a moment, up to the deadline."""
    import select
    select.select([], [], [], 0.02)


def test_reload_takes_on_and_refuses(w):
    n = w.node().start()
    c = Client(n.port, 5)
    c.connect("stays")
    with open(n.conf, "a") as f:
        f.write("wokers = 3;\n")
    n.process.send_signal(signal.SIGHUP)
    log_has(n, 'unknown key "wokers"')
    log_has(n, "nothing was changed")
    n.edit("wokers = 3;\n", "")
    n.edit('auth = "anonymous"', 'tenant = "acne"; auth = "anonymous"')
    n.process.send_signal(signal.SIGHUP)
    log_has(n, 'tenant is "acne", but there is no such tenant')
    n.edit('tenant = "acne"; ', "")
    with open(n.conf, "a") as f:
        f.write("tenants: { default: { MaximumQoS = 1; }; };\n")
    n.process.send_signal(signal.SIGHUP)
    log_has(n, "the configuration is in effect")
    assert c.publish("a", "still here", 1) in (0, 0x10)
    late = Client(n.port, 5)
    late.connect("new")
    assert late.subscribe(("x", 2)) == [1]


def test_listeners_come_and_go_on_reload(w):
    """One is added, one closed, one changed; nobody who is connected is dropped; a busy port changes nothing."""
    n = w.node()
    second = n.listen_also("tcp", 'name = "second";')
    n.start()
    a, b = Client(n.port, 5), Client(second, 5)
    a.connect("a")
    b.connect("b")
    third = free_port()

    def reload(says):
        n.log.seek(0, os.SEEK_END)
        at = n.log.tell()
        n.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 60
        while True:
            n.log.seek(at)
            if says in n.log.read():
                break
            assert time.monotonic() < end, says
        for c, t in ((a, "a"), (b, "b")):
            assert c.publish(t, "still here", 1) in (0, 0x10)

    def is_open(port):
        try:
            c = Client(port, 5)
        except ConnectionRefusedError:
            return False
        c.connect(ok=False)
        assert c.expect(2).reason in (0, 0x87)
        return True

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with open(n.conf) as f:
            before = f.read()
        n.edit("listeners = ( ", 'listeners = ( { kind = "tcp"; address = "127.0.0.1:%d"; auth = "anonymous"; }, '
               '{ kind = "tcp"; address = "127.0.0.1:%d"; auth = "anonymous"; }, ' % (third, busy.getsockname()[1]))
        reload("all listeners stay as they were")
        assert is_open(second) and not is_open(third)
    with open(n.conf, "w") as f:
        f.write(before)
    n.edit('name = "second";', 'name = "other"; tenant = "new";')  # the same address, other clients
    n.edit("listeners = ( ", 'listeners = ( { kind = "tcp"; address = "127.0.0.1:%d"; auth = "anonymous"; }, ' % third)
    with open(n.conf, "a") as f:
        f.write("tenants : { new : { MaximumQoS = 0; }; };\n")
    reload("the configuration is in effect")
    assert is_open(third) and is_open(n.port)
    c = Client(second, 5)
    assert c.connect("c").prop(0x24) == 0
    assert b.subscribe(("x", 2)) == [2]  # b stays what it was
    n.edit('{ kind = "tcp"; address = "127.0.0.1:%d"; auth = "anonymous"; }, ' % third, "")
    reload("no longer listening on 127.0.0.1:%d" % third)
    assert not is_open(third) and is_open(second)


def test_stop_is_0_and_says_goodbye(w):
    n = w.node().start()
    c = Client(n.port, 5)
    c.connect("x")
    n.process.send_signal(signal.SIGTERM)
    assert c.closed() == 0x8B
    assert n.process.wait(60) == 0


def test_one_node_alone_stops_without_a_warning(w):
    n = w.node(data=True).start()
    c = Client(n.port)
    c.connect("x", clean=False)
    assert c.subscribe(("a", 1)) == [1]
    n.process.send_signal(signal.SIGTERM)
    assert n.process.wait(60) == 0
    assert logged(n, " warn ") + logged(n, " error ") == 0


def test_unix_socket(w):
    n = w.node()
    path = os.path.join(n.dir, "mqtt.sock")
    n.edit("listeners = ( ", 'listeners = ( { kind = "unix"; address = "%s"; auth = "anonymous"; }, ' % path)
    n.start()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(path)
        s.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a")
        assert s.recv(4) == b"\x20\x02\x00\x00"


def websocket_upgrade(s):
    s.sendall(b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
              b"Sec-WebSocket-Protocol: mqtt\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += s.recv(1)
    assert b"101" in head and b"Sec-WebSocket-Protocol: mqtt" in head, head


def test_tls_and_websocket_listeners(w):
    n = w.node()
    crt, key = n.certificate()
    tls_port = n.listen_also("tls", 'certFile = "%s"; keyFile = "%s";' % (crt, key))
    ws_port = n.listen_also("ws")
    n.start()
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"
    context = ssl.create_default_context(cafile=crt)
    with socket.create_connection(("127.0.0.1", tls_port), timeout=60) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as s:
            s.sendall(connect)
            assert s.recv(4) == b"\x20\x02\x00\x00"
    with socket.create_connection(("127.0.0.1", ws_port), timeout=60) as s:
        websocket_upgrade(s)
        s.sendall(b"\x82" + bytes([0x80 | len(connect)]) + b"\0\0\0\0" + connect)
        assert s.recv(6) == b"\x82\x04\x20\x02\x00\x00"


def test_systemd_is_told_to_wait_while_data_are_opened(w):
    """What opens a large log may take its time: the limit of the start is extended before it begins."""
    n = w.node(data=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        path = os.path.join(n.dir, "notify")
        s.bind(path)
        s.settimeout(60)
        os.environ["NOTIFY_SOCKET"] = path
        try:
            n.start()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        said = []
        while not any("READY=1" in m for m in said):
            said.append(s.recv(4096).decode())
    assert any("STATUS=opening the data" in m and "EXTEND_TIMEOUT_USEC=" in m for m in said[:-1]), said
