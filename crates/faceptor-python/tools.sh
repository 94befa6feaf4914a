# Source me: python_tools makes the environment of requirements.txt, unless it is there, and sets `tools` to its folder.
python_tools() {
    local cache=${FACEPTOR_PYTHON:-$HOME/.cache/faceptor-python} here stamp
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    # Named after the list, so that a new list gets a new environment.
    stamp=$(sha256sum "$here/requirements.txt" | cut -c1-12)
    tools=$cache/tools-$stamp
    [ ! -e "$tools/ready" ] || return 0
    python3 -c 'import ensurepip' 2>/dev/null || "$here/../../.ci/install" python3-venv
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    touch "$tools/ready"
}
