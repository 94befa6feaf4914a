# Tests the board itself, without faceptor: v4l2-ctl reads from v4l2loopback the frames that were fed.
for format in YUYV MJPG; do
    name=$(echo $format | tr A-Z a-z)
    feed 640 480 $format 10 /tmp/clips/face.$name >/dev/null
    sleep 0.5
    timeout 10 v4l2-ctl -d /dev/video10 --stream-mmap --stream-count=8 --stream-to="$results/got.$name" --verbose \
        2>&1 | grep 'cap dqbuf' >"$results/buffers.$name"
    unfeed
done
timeout 10 v4l2-ctl -d /dev/video0 --set-fmt-video=width=320,height=180,pixelformat=YUYV --set-parm=30 \
    --stream-mmap --stream-count=10 --stream-to=/dev/null
