# Makes one run of the loop on vivid, the kernel's test camera, through every fault that vivid offers, one after the other:
# the loop must recover from each by itself, and end only on request.
lines=$results/run.jsonl
touch "$lines"
control=/tmp/faults.sock
ctl() { faceptor ctl --control $control "$@"; }
vivid() {
    for node in /dev/video*; do
        if v4l2-ctl -d "$node" --info 2>/dev/null | grep -q vivid; then echo "$node" && return; fi
    done
    return 1
}
inject() { v4l2-ctl -d "$node" -c "$1"; }
driver=/sys/bus/platform/drivers/vivid

# fault NAME COMMAND: runs COMMAND, waits until frames come again, records the loop's counters.
fault() {
    event begin "$1"
    eval "$2"
    event over "$1"
    # The status is updated once a second.
    sleep 1.2
    more "$lines" 5
    event end "$1"
    ctl status --json >"$results/status.$1.json"
}

node=$(vivid)
faceptor run --source "$node" --tasks age --budget-ms 5000 --latency-ms 300 --json --control $control \
    >"$lines" 2>"$results/run.log" &
loop=$!
until_true 60 has_lines "$lines" 5
sleep 1.2
ctl status --json >"$results/status.start.json"
fault none "sleep 1"
fault dropped-30-percent "inject percentage_of_dropped_buffers=30; sleep 2; inject percentage_of_dropped_buffers=0"
fault dropped-all "inject percentage_of_dropped_buffers=100; sleep 2.5; inject percentage_of_dropped_buffers=0"
fault buffer-flag-error "inject inject_v4l2_buf_flag_error=1"
fault qbuf-error "inject inject_vidioc_qbuf_error=1"
fault fatal-streaming-error "inject inject_fatal_streaming_error=1"
# These two faults take effect when the loop opens the camera again.
fault reqbufs-error "inject inject_vidioc_reqbufs_error=1; inject inject_fatal_streaming_error=1"
fault streamon-error "inject inject_vidioc_streamon_error=1; inject inject_fatal_streaming_error=1"
fault disconnect "inject disconnect=1"
# Timestamps near their wrap begin with the next start of the stream.
fault wrap-timestamp-64 "inject wrap_timestamp=1; inject inject_fatal_streaming_error=1"
fault wrap-timestamp-32 "inject wrap_timestamp=2; inject inject_fatal_streaming_error=1"
inject wrap_timestamp=0
fault unbind "echo vivid.0 >$driver/unbind; sleep 1; echo vivid.0 >$driver/bind"
# Another camera takes its device number meanwhile.
fault another-number "echo vivid.0 >$driver/unbind; sleep 1; modprobe -r v4l2loopback
    modprobe v4l2loopback video_nr=0 max_buffers=4; echo vivid.0 >$driver/bind; vivid >$results/node"
modprobe -r v4l2loopback
modprobe v4l2loopback video_nr=10 max_buffers=4

ctl stats --json >"$results/stats.json"
event quit
kill -TERM $loop
wait $loop
echo $? >"$results/exit"
event ended
