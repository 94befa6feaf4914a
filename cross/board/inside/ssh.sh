# Lets the host connect by ssh, as on a real board, while a camera shows a face.
feed 640 480 YUYV 5 /tmp/clips/face.yuyv >/dev/null
answer_limit=300 ask_host ssh
status=$?
unfeed
return $status
