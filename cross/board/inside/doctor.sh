# Runs `devices` and `doctor` on the board.
faceptor devices --json >"$results/devices.json"
faceptor devices >"$results/devices.txt"
faceptor doctor --json >"$results/doctor.json"
echo $? >"$results/exit"
true
