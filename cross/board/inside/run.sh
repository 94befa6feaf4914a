# Runs the scenarios that the host chose, each in a shell of its own.
. ./lib.sh
# Starting a program from the shared folder is slow.
mkdir /tmp/clips /tmp/bin
cp clips/* /tmp/clips/
cp faceptor feeder /tmp/bin/
export PATH=/tmp/bin:$PATH
modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0
modprobe v4l2loopback video_nr=10 max_buffers=4
until_true 5 test -e /dev/video10
status=0
for scenario in $(cat scenarios); do
    results=$PWD/results/$scenario
    mkdir -p "$results"
    say "scenario $scenario"
    start=$(now)
    if ! (. "./$scenario.sh"); then
        say "scenario $scenario FAILED"
        status=1
        echo failed >"$results/failed"
        # Remaining processes must not disturb the next scenario.
        killall -9 faceptor feeder 2>/dev/null
    fi
    echo "$start $(now)" >"$results/time"
done
exit $status
