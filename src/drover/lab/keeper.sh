# Makes a site out of fresh mount, network and host-name namespaces, then stays to keep them.
# Environment: SITE (its name), MARK (name of its own file system), FOLDER (its folder), SHARED (folder of what both
# sites have alike: the guest to boot, and what libvirt found out about this machine's QEMU).
set -eu
exec 2>&1
hostname "$SITE"
# The mark comes first: from here on every process of the site can be found.
mount -t tmpfs -o mode=0755,size=16m "$MARK" /run
mkdir -p /run/libvirt /run/lock
# /sys shows the network devices of the namespace it was mounted in.
umount --lazy --recursive /sys
mount -t sysfs sysfs /sys
mount --bind "$FOLDER/run" /run/libvirt
mount --bind "$FOLDER/etc" /etc/libvirt
mount --bind "$FOLDER/lib" /var/lib/libvirt
mount --bind "$SHARED/cache" /var/cache/libvirt
mount --bind "$FOLDER/log" /var/log/libvirt
mount --bind "$FOLDER/console" /var/log/libvirt/console
mount --bind "$SHARED/boot" /var/lib/libvirt/boot
ip link set lo up
ln -s "$(command -v sleep)" /run/drover-lab-keeper
echo "ready $$"
exec /run/drover-lab-keeper infinity </dev/null >/dev/null 2>&1
