#!/usr/bin/env bash
# Prints the path of a runnable OpenVPN that is newer than the distribution's (2.7 or later, with its own OpenSSL).
# It is unpacked from Debian's unstable packages into a cache folder; no package of the system is touched.
# usage: openvpn-newer.sh [CACHE_DIR]     (default: ${XDG_CACHE_HOME:-$HOME/.cache}/oxivpn/openvpn-newer)
set -euo pipefail

cache=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/oxivpn/openvpn-newer}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
wrapper=$cache/openvpn

# One at a time: several test programs may ask at once.
exec 9>"$cache/lock"
flock 9

if [ -x "$wrapper" ] && "$wrapper" --version >/dev/null 2>&1; then
  echo "$wrapper"
  exit 0
fi

# The mirror is the one that apt already uses.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
  awk '/^URIs:/ { for (i = 2; i <= NF; i++) print $i }
       /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) print $i }' |
  grep -E '/debian/?$' | head -n 1) || true
if [ -z "$mirror" ]; then
  echo "openvpn-newer.sh: no Debian mirror in apt's sources; set OXIVPN_TEST_NEWER to an openvpn 2.7 or later" >&2
  exit 1
fi

mkdir -p "$cache"/{lists/partial,archives/partial,debs,tree}
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$cache/sources.list"
apt=(apt-get -qq
  -o "Dir::Etc::sourcelist=$cache/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::Lists=$cache/lists" -o "Dir::Cache=$cache" -o APT::Sandbox::User=root)
{
  "${apt[@]}" update
  rm -f "$cache"/debs/*.deb
  (cd "$cache/debs" && "${apt[@]}" download openvpn libc6 libssl3t64 openssl-provider-legacy libnl-3-200 \
    libnl-genl-3-200 liblzo2-2 liblz4-1 libcap-ng0 libcap2 libpkcs11-helper1t64 libsystemd0 libzstd1 libgcc-s1)
} >&2
for package in "$cache"/debs/*.deb; do
  dpkg -x "$package" "$cache/tree"
done

# Run by the unpacked loader with the unpacked libraries; `exec` keeps the process id.
arch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
libs=$cache/tree/usr/lib/$arch
loader=$(find "$libs" -name 'ld-linux*' | head -n 1)
printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' "$loader" "$libs" "$cache/tree/usr/sbin/openvpn" >"$wrapper"
chmod +x "$wrapper"
"$wrapper" --version >/dev/null
echo "$wrapper"
