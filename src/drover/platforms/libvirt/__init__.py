"""KVM/QEMU hosts under libvirt."""
