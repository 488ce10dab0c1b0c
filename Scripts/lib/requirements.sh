# Sourced by the scripts: where the project is, and what must be installed before anything is built.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"

# SwiftPM orders some of the compiler's flags by a set's order, which changes from run to run and rebuilds everything.
export SWIFT_DETERMINISTIC_HASHING=1

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

require_swift() {
    command -v swift >/dev/null 2>&1 || fail "swift is not on the PATH; install Swift 6.2 or newer from https://swift.org/install"
    command -v git >/dev/null 2>&1 || fail "git is not on the PATH"
}

# Installs what of the named Debian packages is missing, when that is allowed; else says how to. Without names: all that
# building and testing everything takes, which is zstd for the format, OpenBLAS for the trainer, OpenSSL for the digests,
# HDF5 for that format and Keras's, ISA-L for parity, ZeroMQ for keepers of several hosts, Open MPI for ranks that are
# processes, Python for the independent reader.
require_packages() {
    [ "$#" -gt 0 ] || set -- libzstd-dev libopenblas-dev libssl-dev libhdf5-dev libisal-dev libzmq3-dev \
        libopenmpi-dev openmpi-bin pkg-config python3
    if ! command -v dpkg-query >/dev/null 2>&1; then
        say "not a Debian system: provide what these packages hold, if the build misses it: $*"
        return
    fi
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        printf 'error: packages are missing; install them with\n    sudo apt-get update && sudo apt-get install -y --no-install-recommends %s\n' \
            "${missing[*]}" >&2
        exit 1
    fi
    say "installing with apt-get: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    }
}

# Prints the Python of an environment in the folder $1 that has the packages that follow; makes it if it is not there.
python_environment() {
    local folder=$1
    shift
    if [ ! -e "$folder/complete" ]; then
        rm -rf "$folder"
        python3 -m venv "$folder" >&2 && "$folder/bin/pip" install --quiet "$@" >&2 || {
            rm -rf "$folder"
            return 1
        }
        touch "$folder/complete"
    fi
    printf '%s\n' "$folder/bin/python"
}
