#!/usr/bin/env bash
# Tests a container image: what is in it, what it answers, and that it runs confined. `make container-test` calls it.
#
#     packaging/container/test.sh IMAGE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
fail() { echo "container-test: FAILED: $*" >&2; exit 1; }
passed() { echo "passed: $*"; }
[ $# -eq 1 ] || fail "arguments: IMAGE"
image=$1
command -v ffmpeg >/dev/null || "$root/.ci/install" ffmpeg
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The settings of compose.yaml, but for the camera.
confined=(--rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges:true)
# The daemon of a machine that is itself confined may not raise limits.
limits=(--ulimit rtprio=40 --ulimit memlock=-1)
if ! docker run "${confined[@]}" "${limits[@]}" "$image" --version >"$work/version" 2>&1; then
    grep -q 'setting rlimit' "$work/version" || fail "$(cat "$work/version")"
    echo "container-test: this machine may not raise limits: the real-time priority is NOT tested" >&2
    limits=()
fi

[ "$(docker image inspect --format '{{.Config.User}}' "$image")" = 65532:65532 ] || fail "it runs as root"
docker run "${confined[@]}" --entrypoint /bin/sh "$image" -c true 2>/dev/null && fail "there is a shell in it"
passed "no root, no shell"

docker run "${confined[@]}" "${limits[@]}" "$image" run --source demo --tasks all --frames 30 --json >"$work/demo" 2>"$work/log" ||
    { cat "$work/log" >&2; fail "the demo clip"; }
[ "$(grep -c '"age"' "$work/demo")" -eq 30 ] || fail "30 frames of the demo clip gave $(grep -c '"age"' "$work/demo") lines with an age"
passed "the demo clip: a face in each of 30 frames, without a capability"
if [ ${#limits[@]} -gt 0 ]; then
    grep -q 'SCHED_FIFO' "$work/log" || fail "no real-time priority: $(cat "$work/log")"
    passed "real-time priority by a limit"
fi

ffmpeg -loglevel error -loop 1 -i "$root/models/demo/astronaut.jpg" -frames:v 8 -pix_fmt yuv420p -f yuv4mpegpipe "$work/film.y4m"
docker run -i "${confined[@]}" "$image" run --source - --tasks age --frames 8 --json <"$work/film.y4m" >"$work/pipe" ||
    fail "a film through a pipe"
[ "$(grep -c '"age"' "$work/pipe")" -eq 8 ] || fail "8 frames through a pipe gave $(grep -c '"age"' "$work/pipe") lines with an age"
passed "YUV4MPEG2 through a pipe"

docker run "${confined[@]}" -v "$root/models/demo:/photos:ro" "$image" image --tasks age --json /photos/astronaut.jpg >"$work/photo" ||
    fail "a photo in a folder of the host"
grep -q '"age"' "$work/photo" || fail "the photo has no age"
passed "a photo of the host"

if docker run "${confined[@]}" "$image" run --source demo --frames 1 --out /picture.png 2>"$work/refused"; then
    fail "it wrote into a read-only root"
fi
grep -q picture.png "$work/refused" || fail "the refusal does not name the file: $(cat "$work/refused")"
passed "a read-only root: refused, and the file is named"

docker run "${confined[@]}" "$image" run --source /dev/video0 --frames 1 2>"$work/refused" && fail "a camera that was not passed in"
grep -q /dev/video0 "$work/refused" || fail "the refusal does not name the camera: $(cat "$work/refused")"
passed "no camera passed in: refused, and the camera is named"

compose=(docker compose)
"${compose[@]}" version >/dev/null 2>&1 || compose=(docker-compose)
if "${compose[@]}" version >/dev/null 2>&1; then
    "${compose[@]}" --file "$here/compose.yaml" config --quiet || fail "compose.yaml"
    passed "compose.yaml is valid"
else
    echo "container-test: Docker Compose is not installed: compose.yaml is NOT checked" >&2
fi
