#!/bin/sh
# Unpacks the ONNX Runtime C headers of Debian's libonnxruntime-dev into a folder, without
# installing anything and without root: the wheels carry no headers, and not every Debian
# release has the package, so it is taken from a newer suite of the mirror that apt already uses.
#
#   fetch-ort-headers.sh FOLDER [SUITE]
#
# Afterwards FOLDER/usr/include/onnxruntime holds the headers. Exits 1 with one line on stderr
# when that is not possible.
set -eu

folder=${1:?usage: fetch-ort-headers.sh FOLDER [SUITE]}
suite=${2:-trixie}

fail() {
    echo "fetch-ort-headers: $*" >&2
    exit 1
}

[ -r /etc/os-release ] || fail "no /etc/os-release; expected a Debian system"
. /etc/os-release
[ "${ID:-}" = debian ] || fail "this system is '${ID:-unknown}', expected Debian"
for tool in apt-get dpkg awk; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
# apt drops privileges to a user that cannot read a 0700 folder.
chmod 755 "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"

# The stanza of this release's main suite names the mirror and its key; only the suite changes.
# One-line entries ("deb [options] URI SUITE ...") and deb822 stanzas are both understood.
configured=$(ls /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
list="$work/fetch.sources"
[ -z "$configured" ] || awk -v release="${VERSION_CODENAME:?}" -v suite="$suite" '
    BEGIN { RS = ""; FS = "\n" }
    {
        types = uris = key = ""; matches = 0
        for (i = 1; i <= NF; i++) {
            if ($i ~ /^[#]/) continue
            if ($i ~ /^Types:.*deb/) types = "Types: deb"
            if ($i ~ /^URIs:/) uris = $i
            if ($i ~ /^Signed-By:/ && $i ~ /debian-archive/) key = $i
            if ($i ~ /^Suites:/) {
                count = split($i, words, /[ \t]+/)
                for (w = 2; w <= count; w++) if (words[w] == release) matches = 1
            }
        }
        if (types != "" && uris != "" && key != "" && matches) {
            print types "\n" uris "\nSuites: " suite "\nComponents: main\n" key
            exit
        }
    }' $configured >"$list"
if [ ! -s "$list" ]; then
    list="$work/fetch.list"
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        awk -v release="${VERSION_CODENAME:?}" -v suite="$suite" '
        $1 == "deb" {
            for (i = 2; i <= NF; i++) if ($i == release && $(i + 1) == "main") {
                line = $1
                for (j = 2; j < i; j++) line = line " " $j
                print line " " suite " main"
                exit
            }
        }' >"$list"
fi
[ -s "$list" ] || fail "apt has no source for ${VERSION_CODENAME} main to take suite $suite from"

apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 \
        -o APT::Get::List-Cleanup=0 "$@" >"$work/log" 2>&1
}
apt update || fail "apt-get update for suite $suite failed: $(tail -n 1 "$work/log")"
cd "$work"
apt download libonnxruntime-dev ||
    fail "apt-get download libonnxruntime-dev failed: $(tail -n 1 "$work/log")"
dpkg -x libonnxruntime-dev_*.deb "$work/unpacked" || fail "the package does not unpack"
[ -r "$work/unpacked/usr/include/onnxruntime/onnxruntime_c_api.h" ] ||
    fail "the package holds no onnxruntime/onnxruntime_c_api.h"

# Unpacked beside the target and renamed, so that the folder is whole or absent.
mkdir -p "$(dirname "$folder")"
beside="$folder.tmp.$$"
rm -rf "$beside"
cp -r "$work/unpacked" "$beside"
rm -rf "$folder"
mv "$beside" "$folder"
