"""The inventory: one watcher a site, whose events keep the list of VMs fresh without polling."""

from drover.inventory.keepers import Keepers
from drover.inventory.sites import look, watch

__all__ = ["Keepers", "look", "watch"]
