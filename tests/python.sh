#!/bin/sh
# The Python packages that the tests of foreign readers use, in the user's cache folder.
#
#   tests/python.sh install   installs the packages if they are missing, and prints their folder
#   tests/python.sh where     prints the folder, or fails if it is not there
#
# The tests call this themselves. A program finds the packages with PYTHONPATH set to the folder.
set -eu

packages='
    pyarrow==25.0.1 pyroaring==1.2.0 blake3==1.0.11
    duckdb==2.0.1 polars==2.1.0 daft==0.7.26
    packaging==26.4 tqdm==4.67.3 typing_extensions==4.16.0'

cache="${XDG_CACHE_HOME:-$HOME/.cache}/datafusion-supertable/python"
# Other packages, or another Python, are another folder.
key="$(printf '%s %s' "$(python3 -c 'import sys; print(sys.implementation.cache_tag)')" "$packages" | cksum)"
target="$cache/${key%% *}"

# Installs into a temporary folder and renames, so that nobody meets half an installation.
install() {
    [ -d "$target" ] && return
    mkdir -p "$cache"
    staging="$(mktemp -d "$cache/.staging.XXXXXX")"
    trap 'rm -rf "$staging"' EXIT
    # shellcheck disable=SC2086 # One word for each package.
    python3 -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: \
        --target "$staging" $packages >&2
    chmod 755 "$staging"
    # Someone else may have been quicker; theirs is as good.
    mv -T "$staging" "$target" 2>/dev/null || [ -d "$target" ]
    rm -rf "$staging"
    trap - EXIT
}

case "${1:-}" in
    install)
        install
        echo "$target"
        ;;
    where)
        [ -d "$target" ] || { echo "the packages are not installed: run tests/python.sh install" >&2; exit 1; }
        echo "$target"
        ;;
    *)
        sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
