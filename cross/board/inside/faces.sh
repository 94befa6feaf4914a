# Runs the loop on a camera that shows a face: YUYV first, then a change of tasks during the run, then the camera is removed
# and returns with MJPG, then a still picture whose overlay the host checks on the display.
lines=$results/run.jsonl
touch "$lines"
control=/tmp/faces.sock
ctl() { faceptor ctl --control $control "$@"; }

feed 640 480 YUYV 5 /tmp/clips/face.yuyv >"$results/fed.yuyv"
until_true 10 test -s "$results/fed.yuyv"
event yuyv
faceptor run --source /dev/video10 --tasks landmarks --budget-ms 5000 --json --control $control \
    --display fb:/dev/fb0 >"$lines" 2>"$results/run.log" &
loop=$!
until_true 60 has_lines "$lines" 4

event choosing age,expression
ctl set-tasks age,expression >"$results/set-tasks"
event chosen age,expression
more "$lines" 3
ctl set-tasks nose 2>"$results/refused" && exit 1
event choosing landmarks
ctl set-tasks landmarks >/dev/null
event chosen landmarks
more "$lines" 3

event camera dies
unfeed
sleep 1
feed 640 480 MJPG 5 /tmp/clips/face.mjpg >"$results/fed.mjpg"
until_true 20 test -s "$results/fed.mjpg"
event mjpg
more "$lines" 4

event camera dies
unfeed
feed 640 480 YUYV 5 /tmp/clips/still.yuyv >"$results/fed.still"
until_true 20 test -s "$results/fed.still"
event still
more "$lines" 4
ask_host screendump faces

sleep 1.2
ctl status --json >"$results/status.json"
ctl stats --json >"$results/stats.json"
ctl quit
wait $loop
echo $? >"$results/exit"
unfeed
