#!/bin/bash
# boot.sh FILES OUT: boot the machine's own systemd as PID 1 of a throw-away container, with FILES laid over the root folder.
#
# Needs root, overlayfs and namespaces; leaves nothing behind. Writes go to a tmpfs. OUT is mounted at /out. oo-test.target is reached, and
# whatever it pulls in ends the container by `systemctl exit N`; N is the exit status of this script. LIMIT bounds the whole in seconds.
set -eu
files=$(realpath "$1"); mkdir -p "$2"; out=$(realpath "$2"); group=oo-test-$$; work=$(mktemp -d)
hierarchies=(); for name in systemd unified; do [ -d "/sys/fs/cgroup/$name" ] && hierarchies+=("/sys/fs/cgroup/$name"); done
[ -f /sys/fs/cgroup/cgroup.procs ] && [ ${#hierarchies[@]} = 0 ] && hierarchies=(/sys/fs/cgroup)
leave() {
  for it in "${hierarchies[@]}"; do
    echo $$ > "$it/cgroup.procs" || true
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      find "$it/$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
      [ -e "$it/$group" ] || break
      read -rt 0.1 <> <(:) || true
    done
  done
  rmdir "$work"
}
trap leave EXIT
for it in "${hierarchies[@]}"; do mkdir -p "$it/$group"; echo $$ > "$it/$group/cgroup.procs"; done
export files out work
timeout -k 2 "${LIMIT:-120}" unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child bash -eu -c '
mount --make-rprivate /
mount -t tmpfs -o size=2g tmpfs "$work"               # an upper folder on the file system of the lower one is refused (ELOOP)
mkdir "$work"/{upper,work,root}
cp -a "$files/." "$work/upper/"; mkdir -p "$work/upper/out"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"; cd "$work/root"
mount -t proc proc proc; mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run; mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for it in null zero full random urandom tty; do touch "dev/$it"; mount --bind "/dev/$it" "dev/$it"; done
mkdir dev/pts dev/shm; mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts; ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd; mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup; mkdir sys/fs/cgroup/{unified,systemd}
mount -t cgroup2 cgroup2 sys/fs/cgroup/unified; mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mount -o remount,ro,mode=755 sys/fs/cgroup            # else systemd mounts the host controllers and leaves folders in them
mount --bind "$out" out
ip link set lo up
mkdir run/old; pivot_root . run/old; cd /; umount -l /run/old; rmdir /run/old
mount --make-rshared /                                # else LoadCredential= fails with EACCES
exec env -i container=oo PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd systemd.unit=oo-test.target \
  systemd.show_status=0 --log-target=console --log-level=warning
' </dev/null
