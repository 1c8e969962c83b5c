"""What goes on whatever dies: runs of plans and VMs, as durable workflows (DBOS)."""
