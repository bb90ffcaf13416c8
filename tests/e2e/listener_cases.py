"""The ways in: who stands before the broker, and who shows which certificate.  SPDX-License-Identifier: Apache-2.0"""
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess

from basic_cases import topic
from mqtt import CONNECT, PINGREQ, PINGRESP, Client, text
from process_cases import log_has
from stored_cases import name

WITHIN = 60  # s: nothing here takes long, but the machine may be busy
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(w, *argv):
    if shutil.which("openssl") is None:
        raise w.skip("openssl is not installed")
    subprocess.run(["openssl", *argv], check=True, capture_output=True)


def authority(w, d, cn):
    crt, key = os.path.join(d, cn + ".crt"), os.path.join(d, cn + ".key")
    openssl(w, "req", "-x509", *EC, "-keyout", key, "-out", crt, "-days", "2", "-subj", "/CN=" + cn)
    return crt, key


def issued(w, d, ca, cn, san="DNS:localhost,IP:127.0.0.1"):
    """A certificate signed by ca: the files of it and of its key."""
    base = os.path.join(d, cn + "-" + os.path.basename(ca[0])[:-4])
    ext = base + ".ext"
    with open(ext, "w") as f:
        f.write("subjectAltName=%s\n" % san)
    openssl(w, "req", "-new", *EC, "-keyout", base + ".key", "-out", base + ".csr", "-subj", "/CN=" + cn)
    openssl(w, "x509", "-req", "-in", base + ".csr", "-CA", ca[0], "-CAkey", ca[1], "-CAcreateserial", "-days", "2", "-extfile", ext,
            "-out", base + ".crt")
    return base + ".crt", base + ".key"


def over(s, version=5):
    """A client on a socket that is connected already."""
    c = Client.__new__(Client)
    c.version, c.buf, c.pid, c.acks, c.inbox, c.s = version, b"", 0, True, [], s
    return c


def tls(port, ca, cert=None, server="localhost"):
    context = ssl.create_default_context(cafile=ca)
    if cert:
        context.load_cert_chain(*cert)
    raw = socket.create_connection(("127.0.0.1", port), timeout=WITHIN)
    return over(context.wrap_socket(raw, server_hostname=server))


def is_refused(port, ca, cert=None):
    try:
        c = tls(port, ca, cert)
        c.connect(name(), ok=False)
        return c.s.recv(1) == b""
    except OSError:  # a TLS alert, in whichever step it is seen
        return True


def v2(command, body=b""):
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20 | command, 0x11 if body else 0]) + struct.pack(">H", len(body)) + body


def test_a_proxy_gives_the_address_of_the_client(w):
    n = w.node()
    port = n.listen_also("tcp", 'proxyFrom = [ "127.0.0.0/8" ];')
    n.start()
    for head, address in ((b"PROXY TCP4 203.0.113.7 192.0.2.1 5555 1883\r\n", "203.0.113.7:5555"),
                          (b"PROXY TCP6 2001:db8::7 2001:db8::1 5556 1883\r\n", "[2001:db8::7]:5556"),
                          (v2(1, bytes([203, 0, 113, 8, 192, 0, 2, 1]) + struct.pack(">HH", 5557, 1883)), "203.0.113.8:5557")):
        c, cid = Client(port, 5), name()
        c.raw(head)
        c.connect(cid)
        log_has(n, address, WITHIN)
    health = Client(port)  # the proxy asks whether we are there
    health.raw(v2(0))
    health.s.close()
    for port, head in ((port, b""), (port, b"PROXY TCP4 nonsense\r\n"), (n.port, b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 1883\r\n")):
        c = Client(port, 4)
        c.raw(head)
        try:
            c.send(CONNECT, 0, text("MQTT") + b"\4\2\0\0" + text("x"))
            c.closed(WITHIN)
        except OSError:
            pass
    n.log.seek(0)
    assert "203.0.113.9" not in n.log.read()


def test_a_client_certificate_says_who_it_is(w):
    n = w.node()
    ca, stranger = authority(w, n.dir, "ca"), authority(w, n.dir, "stranger")
    server = issued(w, n.dir, ca, "server")
    alice, bob = issued(w, n.dir, ca, "alice", "DNS:alice.example"), issued(w, n.dir, ca, "bob", "DNS:bob.example")
    n.file("acl", "user alice\ntopic readwrite a/#\nuser bob.example\ntopic readwrite b/#\n")
    n.edit("apiServerConfig", 'tenants : { default : { aclFile = "%s/acl"; }; };\napiServerConfig' % n.dir)
    keys = 'certFile = "%s"; keyFile = "%s"; trustCertsFile = "%s"; clientAuth = "REQUIRE"; ' % (*server, ca[0])
    by_cn = n.listen_also("tls", keys)
    by_san = n.listen_also("tls", keys + 'identity = "SAN";')
    with open(n.conf) as f:
        conf = f.read()
    for port in (by_cn, by_san):
        conf = conf.replace('address = "127.0.0.1:%d"; auth = "anonymous";' % port, 'address = "127.0.0.1:%d"; auth = "certificate";' % port)
    with open(n.conf, "w") as f:
        f.write(conf)
    n.start()
    for port, cert, good, bad in ((by_cn, alice, "a/x", "b/x"), (by_san, bob, "b/x", "a/x")):
        c = tls(port, ca[0], cert)
        c.connect(name())
        assert c.publish(good, "x", 1) in (0, 0x10)
        assert c.publish(bad, "x", 1) == 0x87
        assert is_refused(port, ca[0])
        assert is_refused(port, ca[0], issued(w, n.dir, stranger, "alice"))


def test_tls_files_are_read_again_and_nobody_is_dropped(w):
    """Certificate, key, CA of the clients and the names of SNI."""
    n = w.node()
    old, new = authority(w, n.dir, "old"), authority(w, n.dir, "new")
    files = {k: os.path.join(n.dir, "now." + k) for k in ("crt", "key", "ca")}

    def put(cert, trusted):
        for k, source in (("crt", cert[0]), ("key", cert[1]), ("ca", trusted)):
            shutil.copy(source, files[k])
    put(issued(w, n.dir, old, "server"), old[0])
    other = issued(w, n.dir, old, "other", "DNS:other.example")
    port = n.listen_also("tls", 'certFile = "%s"; keyFile = "%s"; trustCertsFile = "%s"; clientAuth = "REQUIRE"; '
                         'serverNames = [ "other.example=%s:%s" ];' % (files["crt"], files["key"], files["ca"], *other))
    n.start()
    first, second = issued(w, n.dir, old, "first"), issued(w, n.dir, new, "second")
    stays = tls(port, old[0], first)
    stays.connect(name())
    assert tls(port, old[0], first, "other.example").s.getpeercert()["subject"] == ((("commonName", "other"),),)
    assert is_refused(port, old[0], second)
    put(issued(w, n.dir, new, "renewed"), new[0])
    n.process.send_signal(signal.SIGHUP)
    log_has(n, "the configuration is in effect", WITHIN)
    c = tls(port, new[0], second)
    assert c.s.getpeercert()["subject"] == ((("commonName", "renewed"),),)
    c.connect(name())
    assert is_refused(port, new[0], first)
    t = topic("tls")
    stays.subscribe((t, 1))
    assert c.publish(t, "x", 1) == 0
    assert stays.message(WITHIN) == (t, "x")
    shutil.copy(files["ca"], files["key"])  # no key: all stays as it is
    n.process.send_signal(signal.SIGHUP)
    log_has(n, "nothing was changed", WITHIN)
    tls(port, new[0], second).connect(name())
    stays.send(PINGREQ, 0, b"")
    stays.expect(PINGRESP, WITHIN)
