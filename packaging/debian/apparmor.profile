# What the services' program may reach. The units name this profile; `faceptor` on a command line is not confined.
# Additions for this machine belong in /etc/apparmor.d/local/faceptor.
abi <abi/3.0>,

include <tunables/global>

profile faceptor flags=(attach_disconnected) {
  include <abstractions/base>

  /usr/bin/faceptor mr,
  /etc/faceptor/{,**} r,
  /var/lib/faceptor/{,**} rwkl,
  /var/lib/faceptor-bundles/{,**} rk,
  /run/faceptor/{,**} rwk,
  /tmp/{,**} rwk,

  # Cameras and the display.
  /dev/ r,
  /dev/video[0-9]* rw,
  /dev/fb[0-9]* rw,

  # The service manager.
  /run/systemd/notify w,

  # Clocks, temperatures and the names of cameras.
  /sys/{,**} r,
  @{PROC}/@{pid}/** r,
  @{PROC}/@{pid}/task/@{tid}/timerslack_ns rw,
  @{PROC}/{loadavg,stat,meminfo,cpuinfo} r,
  @{PROC}/sys/kernel/{hostname,sched_rt_*} r,

  # Control socket, and the preview page where the unit permits a network.
  network unix,
  network inet stream,
  network inet6 stream,

  # Signals of systemd and of an administrator.
  signal receive peer=unconfined,

  include if exists <local/faceptor>
}
