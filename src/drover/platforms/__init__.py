"""The kinds of site. The only code that knows a hypervisor's API."""
