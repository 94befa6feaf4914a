# Source me: python_tools [LIST] makes the environment of a list (requirements.txt), unless it is there, and sets `tools` to its folder.
python_tools() {
    local cache=${FACEPTOR_PYTHON:-$HOME/.cache/faceptor-python} list=${1:-requirements.txt} here stamp
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    # Named after the list, so that a new list gets a new environment.
    stamp=$(cat "$here/requirements.txt" "$here/$list" | sha256sum | cut -c1-12)
    [ "$list" != requirements.txt ] || stamp=$(sha256sum "$here/$list" | cut -c1-12)
    tools=$cache/tools-$stamp
    [ ! -e "$tools/ready" ] || return 0
    python3 -c 'import ensurepip' 2>/dev/null || "$here/../../.ci/install" python3-venv
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/$list"
    touch "$tools/ready"
}
