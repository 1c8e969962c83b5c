"""A lab of two sites on one machine, to try Drover and to test it: real libvirt, real QEMU, an emulated link."""

from drover.lab.lab import DESTINATION, SOURCE, Lab
from drover.lab.link import Link, LinkSettings
from drover.lab.site import Site, VmStatus
from drover.lab.vm import VmSpec

__all__ = ["DESTINATION", "SOURCE", "Lab", "Link", "LinkSettings", "Site", "VmSpec", "VmStatus"]
