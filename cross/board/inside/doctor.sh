# What the program says of the board and its cameras.
faceptor devices --json >"$results/devices.json"
faceptor devices >"$results/devices.txt"
faceptor doctor --json >"$results/doctor.json"
echo $? >"$results/exit"
true
