#!/bin/bash
# the same source gives the same packages, elsewhere, at another time, in another language
check "built again in another directory" env WORK="$work/again/with/a/longer/name" OUT="$work/deb" TZ=Pacific/Apia LC_ALL=C.UTF-8 \
    sh -c 'umask 027; scripts/build-deb'
for d in build/deb/*_"$version"_*.deb; do
    check "$(basename "$d") is the same, byte by byte" cmp "$d" "$work/deb/$(basename "$d")"
done
