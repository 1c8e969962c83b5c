#!/bin/sh
# The power button: the witness ends its last write, the file system is unmounted, the power goes off.
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo "GUEST power button"
witness=$(cat /run/witness.pid)
kill -TERM "$witness"
for turn in $(seq 200); do
	[ -d "/proc/$witness" ] || break
	usleep 50000
done
sync
umount /data && echo "GUEST unmounted" || mount -o remount,ro /data
poweroff -f
