"""The client of drover-engine: its certificates, its start on a host, its control API."""
