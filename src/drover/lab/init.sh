#!/bin/busybox sh
# Process 1 of the lab's guest: mounts, starts the witness, and ends in good order at the power button.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/ttyS0 >/dev/ttyS0 2>&1
for module in virtio_pci virtio_blk virtio_net button evdev; do
	modprobe "$module" || echo "GUEST cannot load $module"
done

wait_for() {
	for turn in $(seq 100); do
		[ -b "$1" ] && return 0
		usleep 50000
	done
	echo "GUEST has no $1"
}
wait_for /dev/vda
wait_for /dev/vdb
mount -t ext4 -o noatime /dev/vda /data || echo "GUEST cannot mount /dev/vda"
ip link set lo up
ip link set eth0 up 2>/dev/null
acpid -l /dev/null -M /etc/acpid.map -c /etc/acpi -a /etc/acpid.conf

# Each witness.<option>=<value> of the kernel's command line becomes an option of the witness; witness.load its mode.
mode=
options=
for word in $(cat /proc/cmdline); do
	case "$word" in
	witness.load) mode=load ;;
	witness.*=*) name=${word%%=*} && options="$options --${name#witness.} ${word#*=}" ;;
	esac
done
echo "GUEST up after $(cut -d ' ' -f 1 /proc/uptime) s"
drover-witness $mode --device /dev/vdb --directory /data --console /dev/ttyS0 $options &
echo $! >/run/witness.pid
wait $!
echo "GUEST witness ended with status $?"
while :; do sleep 3600; done
