#!/usr/bin/env bash
# systemd-host.sh DIRECTORY CHECKOUT NODE: boots this machine's systemd as the first process of a PID namespace, in the network namespace where
# this runs, until SIGTERM. Its root is this machine's, and what it writes stays in memory; CHECKOUT and NODE are where packages would have put
# them. Of the kernel's own settings it may change none.
set -eu
if [ "$1" != inside ]; then
  # A control group of its own, as a container has one. `ip netns exec` hides where they are.
  mkdir "$1/cgroup" "$1/memory"
  mount -t cgroup2 cgroup2 "$1/cgroup"
  for left in "$1"/cgroup/weir-systemd-*; do
    [ -d "/proc/${left##*-}" ] || find "$left" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  group=$1/cgroup/weir-systemd-$$
  mkdir "$group"
  (
    echo $BASHPID >"$group/cgroup.procs"
    exec unshare --pid --fork --kill-child=SIGKILL --mount --cgroup --uts bash "$0" inside "$1/memory" "$2" "$3"
  ) &
  booted=$!
  trap 'kill -KILL $booted' TERM
  until wait $booted || [ $? != 143 ]; do :; done
  for _ in {1..250}; do
    ! find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || exit 0
    sleep 0.02
  done
  echo "control groups are left in $group" >&2
  exit 1
fi
memory=$2 root=$2/root
mount --make-rprivate /
mount -t tmpfs tmpfs "$memory"
mkdir "$memory/upper" "$memory/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$memory/upper,workdir=$memory/work" "$root"
mount --rbind /dev "$root/dev"
for empty in /dev/shm /run /tmp; do mount -t tmpfs tmpfs "$root$empty"; done
mount -t proc proc "$root/proc"
mount --bind /proc/sys "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount --bind /sys "$root/sys"
mount -o remount,bind,ro "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mkdir -p "$root/usr/local/lib/weir"
mount --bind "$3" "$root/usr/local/lib/weir"
rm -f "$root/usr/local/bin/node"
touch "$root/usr/local/bin/node"
mount --bind "$4" "$root/usr/local/bin/node"
ln -sf ../lib/weir/dist/cli/main.js "$root/usr/local/bin/weir"
systemd-id128 new >"$root/etc/machine-id"
exec chroot "$root" env -i container=weir PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target --show-status=no
