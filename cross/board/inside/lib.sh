# Sourced by the scenarios on the board (busybox sh). The shared folder is the working directory; a scenario writes its
# results to $results, a folder of its own, and the host checks them.

# Seconds since the board was started: the clock of `captured_us`.
now() { cut -d' ' -f1 /proc/uptime; }

say() { echo "board: $*"; }

# event WORDS: records an action with its time.
event() { echo "$(now) $*" >>"$results/events"; }

# until_true LIMIT_S COMMAND...: tries it ten times a second; reports and ends the scenario when the time is over.
until_true() {
    local end=$(($(date +%s) + $1))
    shift
    while ! "$@"; do
        if [ "$(date +%s)" -ge $end ]; then
            say "waited in vain: $*"
            exit 1
        fi
        sleep 0.1
    done
}

has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }

# more FILE N [LIMIT_S]: waits until N lines have been added to it from now on.
more() { until_true "${3:-30}" has_lines "$1" $(($(wc -l <"$1") + $2)); }

# ask_host WORD ARGUMENTS: see machine.py; fails if the host cannot do it.
ask_host() {
    echo "@host $*"
    local answer
    answer=answers/$(echo "$*" | tr ' ' .)
    until_true "${answer_limit:-20}" test -s "$answer" && [ "$(cat "$answer")" = done ]
}

# A software camera, fed by cross/board/feeder.c: feed WIDTH HEIGHT FOURCC FPS FILE, then unfeed.
feed() {
    feeder /dev/video10 "$@" &
    feeder=$!
}
unfeed() {
    kill $feeder
    wait $feeder 2>/dev/null || true
}
