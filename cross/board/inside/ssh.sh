# The host comes in by ssh, as it does on a real board. Meanwhile there is a camera that shows a face.
feed 640 480 YUYV 5 /tmp/clips/face.yuyv >/dev/null
answer_limit=300 ask_host ssh
status=$?
unfeed
return $status
