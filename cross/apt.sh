# Source me: private_apt WORK [SOURCES] makes separate package lists in the folder WORK, with arm64 among the
# architectures, and sets the arrays `apt` (apt-get) and `cache` (apt-cache) to use them. The system's configuration,
# architectures and installed packages stay as they are. SOURCES is a sources.list; without it, the system's own.
private_apt() {
    local work=$1 sources=${2:-}
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    local options=(-o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=)
    [ -z "$sources" ] || options+=(-o Dir::Etc::sourcelist="$sources" -o Dir::Etc::sourceparts=/dev/null)
    apt=(apt-get -q "${options[@]}")
    # shellcheck disable=SC2034  # used by the scripts that source this
    cache=(apt-cache "${options[@]}")
    "${apt[@]}" update >"$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }
}

# arm64_archives WORK PACKAGE...: downloads Debian 12's packages for arm64, with all that they need, into WORK/cache/archives.
arm64_archives() {
    local work=$1 keys=/usr/share/keyrings/debian-archive-keyring.gpg
    shift
    printf 'deb [signed-by=%s arch=arm64] http://deb.debian.org/debian bookworm main\n' $keys >"$work/sources.list"
    private_apt "$work" "$work/sources.list"
    : >"$work/status"
    "${apt[@]}" -o Dir::State::status="$work/status" -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Install-Recommends=false \
        -o Debug::NoLocking=true --yes --download-only install "$@" >"$work/log" 2>&1 || { tail "$work/log" >&2; return 1; }
}
