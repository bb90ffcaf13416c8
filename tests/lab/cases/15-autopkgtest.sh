#!/bin/bash
# the packages' own tests (debian/tests), with what their control file names
mkdir -p "$LAB_SHARE/tests"
cp -r debian "$LAB_SHARE/tests"
cp "$LAB_DIR/base/etc/apt/sources.list" "$LAB_SHARE/tests/base.list"
needs=$(sed -n 's/^Depends: //p' debian/tests/control | tr -d ' ' | tr ',' '\n' | sort -u | grep -v '^bilrost' | tr '\n' ' ')
check "what they need besides our packages is installed" "$HOSTS" online h1 bash -c "
    cp /etc/apt/sources.list /root/lab.list; cp /lab/tests/base.list /etc/apt/sources.list
    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $needs </dev/null
    r=\$?; cp /root/lab.list /etc/apt/sources.list; apt-get -qq update; exit \$r"
check "our packages are installed" apt h1 install bilrost bilrost-dev bilrost-tools
for name in $(sed -n 's/^Tests: //p' debian/tests/control); do
    T=300
    check "autopkgtest: $name" on h1 "cd /lab/tests && debian/tests/$name"
    T=120
done
